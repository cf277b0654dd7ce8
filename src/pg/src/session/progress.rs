//! Progress of a statement that runs: what its operators have counted so far.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use datafusion::physical_plan::ExecutionPlan;

/// Time between two reports.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// The plan of a statement, from when it is planned on.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    began: Instant,
    plan: Arc<OnceLock<Arc<dyn ExecutionPlan>>>,
}

/// The counts of a plan's operators.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Rows of the operators that read something.
    rows: usize,
    passes: usize,
    tokens: usize,
}

impl Progress {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), plan: Arc::default() }
    }

    /// Tells the plan, once.
    pub(crate) fn planned(&self, plan: &Arc<dyn ExecutionPlan>) {
        let _ = self.plan.set(Arc::clone(plan));
    }

    /// Says how long the statement runs, what it has read, and what went through models: `00:01:05, 4096 rows read, 12
    /// forward passes, 1536 tokens`.
    pub(crate) fn text(&self) -> String {
        let mut counts = Counts::default();
        if let Some(plan) = self.plan.get() {
            counts.add(plan.as_ref());
        }
        let seconds = self.began.elapsed().as_secs();
        let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        for (count, one, many) in [
            (counts.rows, "row read", "rows read"),
            (counts.passes, "forward pass", "forward passes"),
            (counts.tokens, "token", "tokens"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {}", if count == 1 { one } else { many }));
            }
        }
        text
    }
}

impl Counts {
    fn add(&mut self, plan: &dyn ExecutionPlan) {
        let children = plan.children();
        if let Some(metrics) = plan.metrics() {
            let counted = |name: &str| metrics.sum_by_name(name).map_or(0, |sum| sum.as_usize());
            self.passes += counted("forward_passes");
            self.tokens += counted("tokens_run");
            if children.is_empty() {
                self.rows += metrics.output_rows().unwrap_or(0);
            }
        }
        children.into_iter().for_each(|child| self.add(child.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn rows_of_scans_are_counted() {
        let context = SessionContext::new();
        let query =
            "SELECT count(*) FROM generate_series(1, 1000) a JOIN generate_series(1, 10) b ON a.value = b.value";
        let frame = context.sql(query).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        let progress = Progress::begin();
        assert_eq!(progress.text(), "00:00:00");
        progress.planned(&plan);
        assert_eq!(progress.text(), "00:00:00");
        datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap();
        assert_eq!(progress.text(), "00:00:00, 1010 rows read");
    }
}
