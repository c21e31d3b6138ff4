//! Directories, resolved once from what was typed.

use std::path::{Path, PathBuf};

use crate::args::Dirs;

const DATA_DIR: &str = "/var/lib/cleat";
const RUN_DIR: &str = "/run/cleat";
const LOG_DIR: &str = "/var/log/pods";

/// Where everything of one node lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// Lasting state.
    pub(crate) data: PathBuf,
    /// Sockets and what a reboot may lose.
    pub(crate) run: PathBuf,
    /// Container logs, `<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub(crate) logs: PathBuf,
}

impl Paths {
    /// `--data-dir` moves all: logs and sockets too, unless `--run-dir` says otherwise.
    pub(crate) fn resolve(dirs: &Dirs) -> std::io::Result<Self> {
        let absolute = |dir: &PathBuf| std::path::absolute(dir);
        let data = dirs.data_dir.as_ref().map(absolute).transpose()?;
        let run = dirs.run_dir.as_ref().map(absolute).transpose()?;
        Ok(Self {
            run: run.unwrap_or_else(|| data.as_deref().map_or(RUN_DIR.into(), |d| d.join("run"))),
            logs: data.as_deref().map_or(LOG_DIR.into(), |d| d.join("logs/pods")),
            data: data.unwrap_or_else(|| DATA_DIR.into()),
        })
    }

    pub(crate) fn cri_socket(&self) -> PathBuf {
        self.run.join("cri.sock")
    }

    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    /// Where `cleat control` writes the administrator's kubeconfig.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.data.join("control/admin.kubeconfig")
    }

    /// Who this machine is as a node of a cluster elsewhere.
    pub(crate) fn node(&self) -> PathBuf {
        self.data.join("node")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// What to add to a `cleat` command so that it finds this node.
    pub(crate) fn flags(&self) -> String {
        let mut flags = String::new();
        let own_run = self.data.join("run") == self.run;
        if self.data != Path::new(DATA_DIR) {
            flags += &format!(" --data-dir {}", self.data.display());
        }
        if !own_run && self.run != Path::new(RUN_DIR) {
            flags += &format!(" --run-dir {}", self.run.display());
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_dir_moves_everything() {
        let check = |data: Option<&str>, run: Option<&str>, expected: [&str; 3], flags: &str| {
            let dirs = Dirs { data_dir: data.map(Into::into), run_dir: run.map(Into::into) };
            let paths = Paths::resolve(&dirs).unwrap();
            assert_eq!([&paths.data, &paths.run, &paths.logs], expected.map(PathBuf::from).each_ref());
            assert_eq!(paths.flags(), flags);
        };
        check(None, None, ["/var/lib/cleat", "/run/cleat", "/var/log/pods"], "");
        check(Some("/d"), None, ["/d", "/d/run", "/d/logs/pods"], " --data-dir /d");
        check(Some("/d"), Some("/r"), ["/d", "/r", "/d/logs/pods"], " --data-dir /d --run-dir /r");
        check(None, Some("/r"), ["/var/lib/cleat", "/r", "/var/log/pods"], " --run-dir /r");
    }
}
