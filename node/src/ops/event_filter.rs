//! Filters the events of `/events`.

use alys_cluster::event::{ClusterEvent, Recorded};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::event_fields::fields;
use super::view::Problem;

/// Fields of an event that name an actor.
const ACTORS: [&str; 3] = ["actor", "child", "supervisor"];

/// Query parameters of `/events`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Only events of these kinds, separated by commas, such as `restart_decided,child_ended`
    #[param(min_length = 1)]
    kind: Option<String>,
    /// Only events that concern this actor or supervisor, such as `chain`; a trailing `*` matches by prefix, as in
    /// `link/*`
    #[param(min_length = 1)]
    actor: Option<String>,
    /// Only events since this time: milliseconds since the Unix epoch as in `at_ms`, or a duration before now, such as
    /// `10m`. Not allowed for a stream, which uses `last-event-id`
    #[param(min_length = 1)]
    since: Option<String>,
}

/// Conditions that an event must meet, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Accepted kinds; empty accepts any kind.
    kinds: Vec<String>,
    actor: Option<String>,
    /// Earliest time of an event, milliseconds since the Unix epoch.
    since: u64,
}

fn wrong(field: &str, found: &str, expected: &str) -> Problem {
    let detail = format!("query parameter `{field}` is {found:?}; expected {expected}");
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

impl Parameters {
    /// Validates the parameters; `now_ms` is the current time of the member's wall clock.
    pub(super) fn read(self, now_ms: u64, is_stream: bool) -> Result<Filter, Problem> {
        let kinds = self.kind.iter().flat_map(|kinds| kinds.split(',')).map(str::to_owned);
        let kinds: Vec<_> = kinds.collect();
        if let Some(unknown) = kinds.iter().find(|kind| !ClusterEvent::KINDS.contains(&kind.as_str())) {
            return Err(wrong("kind", unknown, &ClusterEvent::KINDS.join(", ")));
        }
        if self.actor.as_deref() == Some("") {
            return Err(wrong("actor", "", "the name of an actor, or a beginning and `*`"));
        }
        let since = match self.since.as_deref() {
            None => 0,
            Some(since) if is_stream => {
                return Err(wrong("since", since, "the header `last-event-id` instead, of a stream"));
            }
            Some(since) => moment(since, now_ms).ok_or_else(|| {
                wrong("since", since, "milliseconds since the Unix epoch, or how long ago, such as 10m")
            })?,
        };
        Ok(Filter { kinds, actor: self.actor, since })
    }
}

fn moment(text: &str, now_ms: u64) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let ago = humantime::parse_duration(text).ok()?.as_millis();
    Some(now_ms.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX)))
}

impl Filter {
    /// Whether the event meets all conditions.
    pub(super) fn admits(&self, recorded: &Recorded) -> bool {
        let kind = recorded.event.kind();
        recorded.at.0 >= self.since
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind))
            && self.actor.as_deref().is_none_or(|wanted| concerns(&recorded.event, wanted))
    }
}

fn concerns(event: &ClusterEvent, wanted: &str) -> bool {
    let fields = fields(event);
    let names = ACTORS.iter().filter_map(|field| fields.get(*field)?.as_str());
    let fits = |name: &str| match wanted.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == wanted,
    };
    names.into_iter().any(fits)
}

#[cfg(test)]
mod tests {
    use alys_cluster::clock::WallTime;
    use alys_cluster::id::{ActorName, BlockHeight};
    use alys_cluster::trace::TraceContext;

    use super::*;

    fn read(kind: &str, actor: &str, since: &str) -> Result<Filter, Problem> {
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        Parameters { kind: some(kind), actor: some(actor), since: some(since) }.read(1_000_000, false)
    }

    #[test]
    fn an_event_must_be_as_every_parameter_says() {
        let ended = Recorded {
            at: WallTime(940_000),
            event: ClusterEvent::ChildEnded {
                supervisor: ActorName::literal("network"),
                child: ActorName::literal("link/node-2"),
                reason: "panic".to_owned(),
            },
            trace: TraceContext::default(),
        };
        let round = ClusterEvent::RoundStarted { height: BlockHeight(1), round: 0 };
        let round = Recorded { event: round, ..ended.clone() };
        for (kind, actor, since, of_ended, of_round) in [
            ("-", "-", "-", true, true),
            ("child_ended", "-", "-", true, false),
            ("round_started,child_ended", "-", "-", true, true),
            ("-", "link/node-2", "-", true, false),
            ("-", "network", "-", true, false),
            ("-", "link/*", "-", true, false),
            ("-", "link", "-", false, false),
            ("-", "-", "940000", true, true),
            ("-", "-", "940001", false, false),
            ("-", "-", "1m", true, true),
            ("-", "-", "59s", false, false),
            ("child_ended", "network", "59s", false, false),
        ] {
            let filter = read(kind, actor, since).expect("it is well");
            let found = (filter.admits(&ended), filter.admits(&round));
            assert_eq!(found, (of_ended, of_round), "{kind} {actor} {since}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        for (kind, actor, since, part) in [
            ("restarted", "-", "-", "`kind` is \"restarted\"; expected child_started, "),
            ("child_ended,", "-", "-", "`kind` is \"\"; expected child_started, "),
            ("-", "", "-", "`actor` is \"\"; expected the name of an actor"),
            ("-", "-", "yesterday", "`since` is \"yesterday\"; expected milliseconds"),
            ("-", "-", "", "`since` is \"\"; expected milliseconds"),
        ] {
            let problem = read(kind, actor, since).expect_err(part);
            assert_eq!(problem.status, 400);
            assert!(problem.detail.contains(part), "{}", problem.detail);
        }
        let since = Parameters { since: Some("10m".to_owned()), ..Parameters::default() };
        let problem = since.read(0, true).expect_err("a stream has an id");
        assert!(problem.detail.contains("last-event-id"), "{}", problem.detail);
    }
}
