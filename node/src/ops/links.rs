//! What links show: `/federation/links`.

use alys_cluster::transport::statistics::Count;
use alys_cluster::transport::{Line, LinkStatus};

use super::view::LinkView;

/// The link on `line`, whose actor tells `status`.
pub(super) fn view(line: &Line, status: LinkStatus) -> LinkView {
    let (counters, connection) = (line.counters(), line.connection());
    let (queued, queued_bytes) =
        connection.as_ref().map(|connection| connection.waiting()).unwrap_or_default();
    let dropped = counters.dropped().map(|(class, count)| (class.as_str().to_owned(), count));
    LinkView {
        peer: status.peer.to_string(),
        state: status.phase.as_str().to_owned(),
        dials: status.dials,
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
        last_loss: status.last_loss,
    }
}
