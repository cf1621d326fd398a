//! Serves `/events`: the last events as a list, or new events as a stream.
//!
//! A stream has no queue. It keeps a position in the member's event history and reads the next batch when its client
//! has consumed the previous one. A client that is slower than the length of the history receives a `lagged` event with
//! the number of missed events; a client that reads nothing is disconnected (`wire.rs`).
//!
//! The id of an event is `INCARNATION-NUMBER`. A client that reconnects with the last id it saw resumes after it; after
//! a restart of the member it is told that earlier events are lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use alys_cluster::event::{ClusterEvent, Recorded};
use alys_cluster::telemetry::{History, LoggingMessage};
use alys_cluster::trace::TraceContext;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream::{Stream, unfold};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::event_fields::fields;
use super::event_filter::{Filter, Parameters};
use super::extract::{Asked, form};
use super::router::{DEADLINE, Ops};
use super::view::{EventView, Lagged, Problem};

/// Maximum number of open streams.
pub const STREAMS_MAX: usize = 16;
/// Interval of keep-alive comments on an idle stream.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Maximum number of events read from the history at once.
const BATCH: usize = 64;
/// Delay before a client reconnects (`retry` of server-sent events).
const RETRY: Duration = Duration::from_secs(2);
/// Header with the id of the last event that the client saw.
const LAST_EVENT_ID: &str = "last-event-id";

/// Past events as a list, or new events as a stream
///
/// As JSON: the last 1,024 events, preceded by up to 1,024 older failures and decisions, oldest first. As
/// `text/event-stream`: new events, each with an id, its kind as the event type, and the same JSON; with the header
/// `last-event-id`, the events after that id. An event of type `lagged` gives the number of missed events. At most 16
/// streams are open. The parameters filter the events; an event must match all of them.
#[utoipa::path(
    get,
    path = "/events",
    tag = "telemetry",
    params(
        Parameters,
        (
            "last-event-id" = Option<String>,
            Header,
            description = "Of a stream: the id of the last event that was seen; `INCARNATION-0` for all that are remembered"
        )
    ),
    responses((
        status = OK,
        description = "Events",
        content((Vec<EventView> = "application/json"), (String = "text/event-stream"))
    ))
)]
pub(super) async fn events(
    State(ops): State<Ops>,
    headers: HeaderMap,
    Asked(parameters): Asked<Parameters>,
) -> Result<Response, Problem> {
    let is_stream = form(&headers, &["application/json", "text/event-stream"])? == "text/event-stream";
    let filter = parameters.read(ops.context().clock.wall().0, is_stream)?;
    if is_stream {
        return stream(&ops, headers.get(LAST_EVENT_ID), filter);
    }
    let incarnation = ops.context().incarnation.0;
    let history = ops.context().addresses.logging.ask(DEADLINE, LoggingMessage::History).await?;
    let views = history.iter().filter(|(_, recorded)| filter.admits(recorded));
    let views = views.map(|(number, recorded)| view(incarnation, *number, recorded));
    Ok(Json(views.collect::<Vec<_>>()).into_response())
}

fn view(incarnation: u64, number: u64, recorded: &Recorded) -> EventView {
    EventView {
        id: format!("{incarnation}-{number}"),
        at_ms: recorded.at.0,
        kind: recorded.event.kind().to_owned(),
        message: recorded.event.to_string(),
        fields: fields(&recorded.event),
        trace_id: Some(recorded.trace).filter(|trace| trace.is_sampled()).map(TraceContext::trace_hex),
        inputs: match &recorded.event {
            ClusterEvent::RestartDecided { record, .. } => Some(record.inputs.to_string()),
            _ => None,
        },
    }
}

/// Position at which a stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// After the event with this number.
    After(u64),
    /// At the start of the history: the client's id is from an earlier incarnation of the member.
    Anew,
}

/// Start position for a client whose last seen id is `id`, on a member of this incarnation whose last event number is
/// `last`.
fn start(id: Option<&HeaderValue>, incarnation: u64, last: u64) -> Result<Start, Problem> {
    let Some(id) = id else { return Ok(Start::After(last)) };
    let text = id.to_str().unwrap_or("");
    let number = |text: &str| text.parse::<u64>().ok();
    let parsed = text.split_once('-').and_then(|(of, place)| Some((number(of)?, number(place)?)));
    match parsed {
        Some((of, number)) if of == incarnation && number <= last => Ok(Start::After(number)),
        Some((of, _)) if of < incarnation => Ok(Start::Anew),
        _ => {
            let expected =
                format!("expected {incarnation}-0 to {incarnation}-{last}, or an id of an earlier start");
            let detail = format!("header `{LAST_EVENT_ID}` is {id:?}; {expected}");
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

fn stream(ops: &Ops, last_seen: Option<&HeaderValue>, filter: Filter) -> Result<Response, Problem> {
    let history = ops.context().history.clone();
    let incarnation = ops.context().incarnation.0;
    let start = start(last_seen, incarnation, history.last())?;
    let Ok(slot) = ops.streams().try_acquire_owned() else {
        let detail = format!("{STREAMS_MAX} streams of events are open already; expected fewer");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
        return Ok(([(header::RETRY_AFTER, "5")], problem).into_response());
    };
    let following = Following::new(history, incarnation, (start, filter), ops.stopped(), slot);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    Ok(Sse::new(following.events()).keep_alive(keep_alive).into_response())
}

/// State of one event stream.
struct Following {
    history: History,
    changes: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    incarnation: u64,
    /// Filter that events must pass.
    filter: Filter,
    /// Number of the last event that was sent or waits in `waiting`.
    place: u64,
    /// Events to send next, at most one batch.
    waiting: VecDeque<Event>,
    _slot: OwnedSemaphorePermit,
}

impl Following {
    fn new(
        history: History,
        incarnation: u64,
        (start, filter): (Start, Filter),
        stopped: watch::Receiver<bool>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let changes = history.changes();
        let greeting = Event::default().retry(RETRY).comment("events of this member follow");
        let mut waiting = VecDeque::from([greeting]);
        let place = match start {
            Start::After(place) => place,
            Start::Anew => {
                let reason = "the member has started again since; what was before is gone".to_owned();
                waiting.push_back(lagged(incarnation, 0, Lagged { missed: None, reason }));
                0
            }
        };
        Self { history, changes, stopped, incarnation, filter, place, waiting, _slot: slot }
    }

    /// Reads the next batch of events from the history; skips batches of which no event passes the filter.
    fn take(&mut self) {
        while self.waiting.is_empty() && self.place < self.history.last() {
            let before = self.place;
            self.take_batch();
            if self.place == before {
                return;
            }
        }
    }

    fn take_batch(&mut self) {
        let slice = self.history.after(self.place, BATCH);
        if slice.missed > 0 {
            let place = self.place + slice.missed;
            let reason = "events came faster than they were taken".to_owned();
            self.waiting.push_back(lagged(
                self.incarnation,
                place,
                Lagged { missed: Some(slice.missed), reason },
            ));
        }
        for (number, recorded) in slice.events {
            self.place = number;
            if self.filter.admits(&recorded) {
                let view = view(self.incarnation, number, &recorded);
                let event = Event::default().id(view.id.clone()).event(recorded.event.kind()).json_data(view);
                self.waiting.push_back(event.expect("an event has a JSON form"));
            }
        }
    }

    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if *self.stopped.borrow() {
                return None;
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event), self));
            }
            // Marks the current value as seen, so that `changed` below fires for events recorded from here on.
            self.changes.borrow_and_update();
            self.take();
            if self.waiting.is_empty() {
                tokio::select! {
                    changed = self.changes.changed() => changed.ok()?,
                    _ = self.stopped.changed() => return None,
                }
            }
        }
    }

    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        unfold(self, Self::next)
    }
}

fn lagged(incarnation: u64, place: u64, lagged: Lagged) -> Event {
    let event = Event::default().id(format!("{incarnation}-{place}")).event("lagged");
    event.json_data(lagged).expect("it has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_on_after_what_it_saw_or_is_told_what_was_expected() {
        let from = |id: &'static str| start(Some(&HeaderValue::from_static(id)), 5, 20);
        assert_eq!(start(None, 5, 20), Ok(Start::After(20)));
        assert_eq!(from("5-0"), Ok(Start::After(0)));
        assert_eq!(from("5-20"), Ok(Start::After(20)));
        assert_eq!(from("4-99"), Ok(Start::Anew));
        for id in ["5-21", "6-1", "", "5", "5-", "-5", "five-six", "5-1 "] {
            let problem = from(id).expect_err(id);
            assert_eq!(problem.status, 400, "{id}");
            assert!(problem.detail.contains(&format!("{id:?}; expected 5-0 to 5-20")), "{}", problem.detail);
        }
    }
}
