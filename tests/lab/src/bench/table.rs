//! Figures side by side.

use std::path::PathBuf;

/// What the design allows.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    /// Nothing is said.
    None,
    /// Smaller is better.
    AtMost(f64),
    /// Larger is better.
    AtLeast(f64),
}

/// Rows of ours, the peer's, their ratio and the budget.
pub(crate) struct Table {
    lines: Vec<String>,
}

impl Table {
    /// With its header.
    pub(crate) fn beside(peer: &str) -> Table {
        let header = format!("{:<34}{:>10}{peer:>12}{:>8}  budget", "", "cleat", "ratio");
        Table { lines: vec![header] }
    }

    /// A further row; `NAN` where the peer was not measured.
    pub(crate) fn row(&mut self, name: &str, ours: f64, peer: f64, budget: Budget) {
        let verdict = |kept: bool| if kept { "kept" } else { "MISSED" };
        let budget = match budget {
            Budget::None => String::new(),
            Budget::AtMost(most) => format!("<= {most} {}", verdict(ours <= most)),
            Budget::AtLeast(least) => format!(">= {least} {}", verdict(ours >= least)),
        };
        let shown = |figure: f64| if figure.is_nan() { "-".to_owned() } else { format!("{figure:.2}") };
        let (peer, ratio) = (shown(peer), shown(ours / peer));
        self.lines.push(format!("{name:<34}{ours:>10.2}{peer:>12}{ratio:>8}  {budget}"));
    }

    /// To standard output.
    pub(crate) fn print(&self) {
        for line in &self.lines {
            println!("{line}");
        }
    }
}

/// The smallest time that so many percent of the times do not exceed.
pub(crate) fn rank(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The sizes of a server's programs.
pub(crate) fn sizes(name: &str, programs: &[PathBuf]) {
    let size = |path: &PathBuf| std::fs::metadata(path).map(|m| m.len()).unwrap_or_default();
    let total: u64 = programs.iter().map(size).sum();
    println!("\n{name}: {total} bytes of programs");
    for program in programs {
        println!("{:>14}  {}", size(program), program.display());
    }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn ranks() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((rank(&times, 50), rank(&times, 99), rank(&times[..1], 99)), (50.0, 99.0, 1.0));
    }
}
