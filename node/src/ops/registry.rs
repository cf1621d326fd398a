//! Queries of the actor registry: `/registry/actors` and `/registry/stats`.

use alys_cluster::clock::Moment;
use alys_cluster::discovery::RemoteEntry;
use alys_cluster::mailbox::MailboxStats as _;
use alys_cluster::registry::{
    ActorQuery, ActorRegistryEntry, Cursor, Order, Page, RegistryStats, ThreadSafeActorRegistry, parse,
};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Asked, NoQuery};
use super::router::{JsonAnswer, Ops};
use super::view::{
    ActorView, ActorsView, CountView, MailboxView, Problem, PublishedView, RegistryStatsView, Scope,
};
use crate::discovery;
use crate::tree::NodeContext;

/// The parameters of `/registry/actors`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Query that selects actors, such as `tag=network and state=active`, `name=link/*` or `@consensus-critical`; all
    /// actors if absent
    #[param(min_length = 1)]
    query: Option<String>,
    /// Sort order: `name`, `priority`, `uptime` or `failures`
    #[param(min_length = 1)]
    order: Option<String>,
    /// Maximum number of actors on the page, 1 to 1000
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// Cursor after which the page starts: `next` of the previous page
    #[param(min_length = 1)]
    after: Option<String>,
    /// Whether the answer includes the query plan
    #[param(value_type = Option<bool>)]
    explain: Option<String>,
    /// `member` for this member only, or `federation` for what the other members publish as well
    #[param(min_length = 1)]
    scope: Option<String>,
}

fn wrong(field: &str, what: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("field `{field}`: {what}"))
}

struct Request {
    query: ActorQuery,
    page: Page,
    explain: bool,
    scope: Scope,
}

impl Parameters {
    fn read(self) -> Result<Request, Problem> {
        let query = match &self.query {
            None => ActorQuery::All,
            Some(text) => parse::parse(text, &discovery::named).map_err(|error| wrong("query", error))?,
        };
        let mut page = Page::default();
        if let Some(order) = &self.order {
            page.order = order.parse::<Order>().map_err(|error| wrong("order", error))?;
        }
        if let Some(limit) = &self.limit {
            let expected = |_| wrong("limit", format!("found {limit:?}; expected a whole number"));
            page.limit = limit.parse().map_err(expected)?;
        }
        page.validate().map_err(|error| wrong("limit", error))?;
        page.after = match &self.after {
            None => None,
            Some(after) => Some(after.parse::<Cursor>().map_err(|error| wrong("after", error))?),
        };
        let explain = match self.explain.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(wrong("explain", format!("found {other:?}; expected true or false"))),
        };
        let scope = match self.scope.as_deref() {
            None | Some("member") => Scope::Member,
            Some("federation") => Scope::Federation,
            Some(other) => {
                return Err(wrong("scope", format!("found {other:?}; expected member or federation")));
            }
        };
        if scope == Scope::Federation && (page.after.is_some() || page.order != Order::Name) {
            let expected = "expected neither with `scope=federation`, which is one page by member and name";
            return Err(wrong("after, order", expected));
        }
        if scope == Scope::Federation && query.is_of_one_member() {
            let expected = "members tell each other neither supervisors nor metadata; expected a query without \
                            `supervisor` and `meta.KEY` with `scope=federation`";
            return Err(wrong("query", expected));
        }
        Ok(Request { query, page, explain, scope })
    }
}

fn view(now: Moment, member: &str, entry: &ActorRegistryEntry, protocol: Option<&str>) -> ActorView {
    let (registration, standing) = (entry.registration(), &entry.standing);
    let profile = &registration.profile;
    ActorView {
        member: member.to_owned(),
        name: registration.name.to_string(),
        actor_type: profile.actor_type.to_string(),
        priority: registration.priority.to_string(),
        tags: profile.tags.iter().map(ToString::to_string).collect(),
        metadata: profile.metadata.clone(),
        supervisor: registration.supervisor.as_ref().map(ToString::to_string),
        state: standing.state.to_string(),
        health: standing.health.to_string(),
        incarnation: standing.incarnation.0,
        uptime_ms: standing.uptime(now).map(|uptime| uptime.as_millis() as u64),
        failures: standing.failures,
        mailbox: registration.address.as_ref().map(|address| MailboxView {
            capacity: address.capacity(),
            depth: address.depth(),
            refused: address.refused(),
            message_type: address.message_type().to_owned(),
        }),
        protocol: protocol.map(ToOwned::to_owned),
    }
}

/// Returns one page of the actors that match the query.
fn actors(context: &NodeContext, parameters: Parameters) -> Result<ActorsView, Problem> {
    let Request { query, page, explain, scope } = parameters.read()?;
    let (now, node) = (context.clock.now(), context.roster.own().to_string());
    let registry: &ThreadSafeActorRegistry = &context.supervision.registry;
    let plan = explain.then(|| registry.explain(&query).to_string());
    if scope == Scope::Member {
        let answer = registry.query(now, &query, &page);
        return Ok(ActorsView {
            actors: answer.entries.iter().map(|entry| view(now, &node, entry, None)).collect(),
            matched: answer.matched,
            next: answer.next.map(|next| next.to_string()),
            node,
            plan,
        });
    }
    let own = registry.query(now, &query, &page);
    let others = context.discovery.discover_in_federation(now, &query);
    let other = |found: &RemoteEntry| view(now, found.node.as_str(), &found.entry, Some(&found.protocol));
    let mut all: Vec<_> = own.entries.iter().map(|entry| view(now, &node, entry, None)).collect();
    all.extend(others.iter().map(other));
    all.sort_by(|a, b| (&a.member, &a.name).cmp(&(&b.member, &b.name)));
    all.truncate(page.limit);
    Ok(ActorsView { node, matched: own.matched + others.len(), actors: all, next: None, plan })
}

/// Returns the registry's statistics.
fn stats(context: &NodeContext) -> RegistryStatsView {
    let RegistryStats {
        actors,
        by_state,
        by_priority,
        types,
        tags,
        subscriptions,
        registrations,
        removals,
        moves,
    } = context.supervision.registry.stats();
    let published = context.discovery.directory.members();
    RegistryStatsView {
        node: context.roster.own().to_string(),
        actors,
        by_state: by_state.map(|(state, count)| CountView { name: state.to_string(), count }).to_vec(),
        by_priority: by_priority
            .map(|(priority, count)| CountView { name: priority.to_string(), count: count as u64 })
            .to_vec(),
        types,
        tags,
        subscriptions,
        registrations,
        removals,
        moves,
        published: published
            .into_iter()
            .map(|(member, incarnation, actors)| PublishedView {
                member: member.to_string(),
                incarnation: incarnation.0,
                actors,
            })
            .collect(),
        questions_under_way: context.discovery.caller.under_way(),
    }
}

/// Registered actors with their state and uptime
#[utoipa::path(
    get,
    path = "/registry/actors",
    tag = "registry",
    params(Parameters),
    responses((status = OK, description = "A page of them", body = ActorsView))
)]
pub(super) async fn registry_actors(
    State(ops): State<Ops>,
    Asked(parameters): Asked<Parameters>,
) -> JsonAnswer<ActorsView> {
    actors(ops.context(), parameters).map(Json)
}

/// Number of actors, registrations and removals
#[utoipa::path(
    get,
    path = "/registry/stats",
    tag = "registry",
    responses((status = OK, description = "Its numbers", body = RegistryStatsView))
)]
pub(super) async fn registry_stats(State(ops): State<Ops>, _: NoQuery) -> Json<RegistryStatsView> {
    Json(stats(ops.context()))
}
