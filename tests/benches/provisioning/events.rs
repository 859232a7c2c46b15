//! Where the time of a provision goes, by its own events.

use std::time::{Duration, SystemTime};

use futures::StreamExt;
use serde_json::Value;
use tenantry_tests::World;

use tenantry_tests::figures::{figure, percentile};

/// Milliseconds of each stretch, by its name, in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Breakdown(Vec<(String, Vec<f64>)>);

impl Breakdown {
    /// Takes one provision in: from the request to its record, from there to the end of each step, and back.
    pub(crate) async fn read(&mut self, world: &World<'_>, answer: &Value, began_at: SystemTime, took: Duration) {
        let operation = answer["operation"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an operation");
        let events = world.client().operation_events(operation, None).await.expect("its events");
        let events: Vec<_> = events.map(|event| event.expect("an event")).collect().await;
        let mut before = milliseconds(began_at);
        let end = before + took.as_secs_f64() * 1e3;
        for event in &events {
            let name = match (event.kind.as_str(), event.step.as_deref()) {
                ("queued", _) => "accept",
                ("step_done", Some(step)) => step,
                _ => continue,
            };
            let at = milliseconds(SystemTime::from(event.at));
            self.add(name, at - before);
            before = at;
        }
        self.add("answer", end - before);
    }

    pub(crate) fn print(&self, name: &str) {
        for (stretch, times) in &self.0 {
            figure(&format!("{name}_in_{stretch}_p50_ms"), percentile(times, 50), "ms");
        }
    }

    fn add(&mut self, name: &str, milliseconds: f64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, times)) => times.push(milliseconds),
            None => self.0.push((name.to_owned(), vec![milliseconds])),
        }
    }
}

fn milliseconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970").as_secs_f64() * 1e3
}
