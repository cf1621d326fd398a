//! A span guard that records its span however the work ends.

use std::sync::Arc;

use super::context::TraceContext;
use super::span::SpanBuilder;
use super::tracer::Tracer;
use crate::clock::Clock;

/// A span in progress. It is recorded when it ends, including by a panic, a kill or a timeout, because these are the
/// cases to investigate.
pub struct SpanGuard {
    draft: Option<SpanBuilder>,
    tracer: Tracer,
    clock: Arc<dyn Clock>,
}

impl SpanGuard {
    /// Wraps the span in progress.
    pub fn new(draft: SpanBuilder, tracer: Tracer, clock: Arc<dyn Clock>) -> Self {
        Self { draft: Some(draft), tracer, clock }
    }

    /// Context of the span.
    pub fn context(&self) -> TraceContext {
        self.draft.as_ref().map_or_else(TraceContext::default, SpanBuilder::context)
    }

    /// Ends the span; `error` is the reason if it failed.
    pub fn over(self, error: Option<String>) {
        self.over_with(|draft| draft, error);
    }

    /// Ends the span after `last` has added data known only now.
    pub fn over_with(mut self, last: impl FnOnce(SpanBuilder) -> SpanBuilder, error: Option<String>) {
        self.draft = self.draft.take().map(last);
        self.tell(error);
    }

    fn tell(&mut self, error: Option<String>) {
        let now = self.clock.now();
        if let Some(draft) = self.draft.take() {
            self.tracer.record(match error {
                None => draft.end(now),
                Some(reason) => draft.fail(now, reason),
            });
        }
    }
}

impl Drop for SpanGuard {
    fn drop(&mut self) {
        let how = if std::thread::panicking() { "it panicked" } else { "it was cut short" };
        self.tell(Some(how.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::{Span, SpanSink, new_trace};
    use super::*;
    use crate::clock::SystemClock;

    #[derive(Default)]
    struct Told(Mutex<Vec<Span>>);

    impl SpanSink for Told {
        fn record(&self, spans: Vec<Span>) {
            self.0.lock().expect("nobody panics with it").extend(spans);
        }
    }

    #[test]
    fn what_is_under_way_is_told_once_however_it_ends() {
        let told = Arc::<Told>::default();
        let clock = Arc::new(SystemClock::default());
        let tracer = Tracer::to(told.clone());
        let begin = |name: &'static str| {
            SpanGuard::new(SpanBuilder::root(new_trace(), name, clock.now()), tracer.clone(), clock.clone())
        };
        begin("over").over_with(|draft| draft.with("more", true), None);
        begin("failed").over(Some("why".to_owned()));
        drop(begin("dropped"));
        let panicked = begin("panicked");
        let panics = std::thread::spawn(move || {
            let _panicked = panicked;
            panic!("on purpose");
        });
        assert!(panics.join().is_err());
        let told = told.0.lock().expect("nobody panics with it");
        let ends: Vec<_> = told.iter().map(|span| (span.name.as_ref(), span.error.as_deref())).collect();
        let expected = [
            ("over", None),
            ("failed", Some("why")),
            ("dropped", Some("it was cut short")),
            ("panicked", Some("it panicked")),
        ];
        assert_eq!(ends, expected);
        assert_eq!(told[0].attributes.len(), 1);
    }
}
