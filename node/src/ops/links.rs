//! View of the links: `/federation/links`.

use alys_cluster::transport::PeerChannel;
use alys_cluster::transport::statistics::Count;

use super::view::LinkView;

/// Combines the counters of the peer channel `line` with the status of the link's actor.
pub(super) fn view(line: &PeerChannel, state: &str, dials: bool, last_loss: String) -> LinkView {
    let (counters, connection) = (line.counters(), line.connection());
    let (queued, queued_bytes) =
        connection.as_ref().map(|connection| connection.waiting()).unwrap_or_default();
    let dropped = counters.dropped().map(|(class, count)| (class.as_str().to_owned(), count));
    LinkView {
        peer: line.peer().to_string(),
        state: state.to_owned(),
        dials,
        version: connection.map(|connection| connection.version()),
        round_trip_us: counters.last_round_trip().map(|took| took.as_micros() as u64),
        dialled: counters.get(Count::Dials),
        sessions: counters.get(Count::Sessions),
        queued,
        queued_bytes,
        sent: counters.get(Count::EnvelopesSent),
        sent_bytes: counters.get(Count::BytesSent),
        received: counters.get(Count::EnvelopesReceived),
        received_bytes: counters.get(Count::BytesReceived),
        refused: counters.get(Count::EnvelopesRefused),
        dropped: dropped.into_iter().collect(),
        lost: counters.get(Count::Lost),
        last_loss,
    }
}
