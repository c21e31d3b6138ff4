//! What arrives and what starts, while it does: bars on a terminal, lines elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::time::Duration;

use image::{Phase, Progress, Store};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::args::Dirs;
use crate::ctl;
use crate::node::Node;
use crate::output::{GREEN, paint};
use crate::paths::Paths;

/// How often pods are asked for until all have settled.
const EVERY: Duration = Duration::from_millis(250);

/// Shows every transfer of the store until it is dropped.
pub(crate) async fn pulls(images: Store) {
    let mut reports = images.progress();
    let mut shown = Shown::new();
    loop {
        match reports.recv().await {
            Ok(report) => shown.update(&report),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Layers on their way, each with its bar; without a terminal one line when the first layer of an image begins.
struct Shown {
    bars: Option<MultiProgress>,
    layers: HashMap<(String, String), ProgressBar>,
    images: std::collections::HashSet<String>,
}

impl Shown {
    fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, layers: HashMap::new(), images: std::collections::HashSet::new() }
    }

    fn update(&mut self, report: &Progress) {
        let Some(bars) = &self.bars else {
            if report.phase != Phase::Done && self.images.insert(report.image.clone()) {
                eprintln!("pulling {}", report.image);
            }
            return;
        };
        let layer = report.layer.to_string();
        let key = (report.image.clone(), layer.clone());
        if report.phase == Phase::Done {
            if let Some(bar) = self.layers.remove(&key) {
                bar.finish_and_clear();
            }
            return;
        }
        let bar = self.layers.entry(key).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(report.total));
            bar.set_style(style());
            bar.set_prefix(format!(
                "{} {}",
                report.image,
                layer.trim_start_matches("sha256:").get(..12).unwrap_or(&layer)
            ));
            bar
        });
        bar.set_length(report.total);
        bar.set_position(report.done);
        bar.set_message(match report.phase {
            Phase::Waiting => "waiting",
            Phase::Downloading => "downloading",
            Phase::Unpacking => "unpacking",
            Phase::Done => "done",
        });
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Prints a line whenever a pod's state changes, until every pod is ready or has come to its end.
pub(crate) async fn pods(paths: &Paths) {
    let dirs = Dirs { data_dir: Some(paths.data.clone()), run_dir: Some(paths.run.clone()) };
    let Ok(node) = Node::new(&dirs) else { return };
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    loop {
        if let Ok(pods) = node.pods(None).await {
            for pod in &pods {
                let (name, line) = ctl::line(pod);
                if last.get(&name) != Some(&line) {
                    let line = if settled(pod) { paint(&line, GREEN) } else { line.clone() };
                    println!("pod {name}: {line}");
                }
                last.insert(name, line);
            }
            if !pods.is_empty() && pods.iter().all(settled) {
                return;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Ready, or at its end.
fn settled(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
    ready || ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
}
