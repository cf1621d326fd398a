//! Phase 5: slow links and readers that do not read. Throughput is measured in `benches/`.

mod slow_links;
mod unread_logs;
