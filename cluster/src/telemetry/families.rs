//! Creates metrics and renders all of them in Prometheus' text format.
//!
//! A metric whose labels have no values yet is still declared there, with help and type, so that readers see every
//! metric before its first value.

use std::collections::HashSet;
use std::fmt::Write as _;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::id::NodeId;

#[derive(Clone)]
struct Declared {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
}

/// Every metric of a node, each with the label `node`.
#[derive(Clone)]
pub(super) struct Families {
    registry: Registry,
    declared: Vec<Declared>,
}

impl Families {
    /// Metrics of the process only.
    pub(super) fn new(node: &NodeId) -> Self {
        let labels = [("node".to_owned(), node.to_string())].into();
        let registry = Registry::new_custom(None, Some(labels)).expect("a label of the right form");
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process)).expect("the process collector is registered once");
        Self { registry, declared: Vec::new() }
    }

    fn add<C>(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        made: prometheus::Result<C>,
    ) -> C
    where
        C: Collector + Clone + 'static,
    {
        let metric = made.expect("a metric's name and labels are literals of the right form");
        self.registry.register(Box::new(metric.clone())).expect("every metric has a name of its own");
        self.declared.push(Declared { name, help, kind });
        metric
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> IntCounter {
        self.add(name, help, "counter", IntCounter::new(name, help))
    }

    pub(super) fn counters(&mut self, name: &'static str, help: &'static str, by: &[&str]) -> IntCounterVec {
        self.add(name, help, "counter", IntCounterVec::new(Opts::new(name, help), by))
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> IntGauge {
        self.add(name, help, "gauge", IntGauge::new(name, help))
    }

    pub(super) fn gauges(&mut self, name: &'static str, help: &'static str, by: &[&str]) -> IntGaugeVec {
        self.add(name, help, "gauge", IntGaugeVec::new(Opts::new(name, help), by))
    }

    pub(super) fn measure(&mut self, name: &'static str, help: &'static str) -> Gauge {
        self.add(name, help, "gauge", Gauge::new(name, help))
    }

    pub(super) fn measures(&mut self, name: &'static str, help: &'static str, by: &[&str]) -> GaugeVec {
        self.add(name, help, "gauge", GaugeVec::new(Opts::new(name, help), by))
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &'static str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(name, help, "histogram", Histogram::with_opts(options))
    }

    /// Renders all metrics, those without a value last.
    pub(super) fn render(&self) -> String {
        let gathered = self.registry.gather();
        let mut text = Vec::new();
        TextEncoder::new().encode(&gathered, &mut text).expect("metrics have a text form");
        let mut text = String::from_utf8(text).expect("the text format is UTF-8");
        let shown: HashSet<_> = gathered.iter().map(prometheus::proto::MetricFamily::name).collect();
        for Declared { name, help, kind } in self.declared.iter().filter(|one| !shown.contains(one.name)) {
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes everything");
        }
        text
    }
}
