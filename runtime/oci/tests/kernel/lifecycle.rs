//! From created to deleted, and what is refused on the way.

use std::process::Stdio;

use serde_json::json;

use crate::bundle::{Bundle, Runtime, all};

#[test]
fn a_container_lives_and_leaves_nothing() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
        bundle.create();
        assert_eq!(bundle.status(), "created");
        let stats = bundle.cgroup().stats().unwrap();
        assert_eq!((stats.memory.limit, stats.pids_limit), (Some(64 << 20), Some(50)));
        assert!(bundle.cgroup().pids().unwrap().contains(&bundle.pid()));
        bundle.done("start", &[]);
        assert_eq!(bundle.status(), "running");
        bundle.done("pause", &[]);
        assert_eq!(bundle.status(), "paused");
        bundle.done("resume", &[]);
        assert_eq!(bundle.status(), "running");
        bundle.done("kill", &["KILL"]);
        bundle.until("stopped");
        bundle.done("delete", &[]);
        bundle.assert_gone();
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    for runtime in all() {
        let bundle = Bundle::new(runtime);
        for name in ["start", "state", "kill", "delete"] {
            assert_ne!(bundle.call(name, &[]).code, Some(0), "{runtime:?} {name} of nothing");
        }
        bundle.create();
        let mut again = bundle.command("create", &[], &[]);
        assert!(!again.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        bundle.done("start", &[]);
        assert_ne!(bundle.call("start", &[]).code, Some(0), "{runtime:?} starts twice");
        assert_ne!(bundle.call("delete", &[]).code, Some(0), "{runtime:?} deletes what runs");
        assert_eq!(bundle.status(), "running");
    }
}

#[test]
fn the_exit_code_of_the_program_is_that_of_run() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        assert_eq!(bundle.run("exit 7").code, Some(7), "{runtime:?}");
        // Not of PID 1, which signals of its own do not reach.
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "pid");
        assert_eq!(bundle.run("kill -9 $$").code, Some(137), "{runtime:?}");
    }
}

#[test]
fn a_program_that_is_not_there_fails_the_creation_and_leaves_nothing() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        for (program, text) in
            [("no-such", "executable file not found in $PATH"), ("/etc/passwd", "permission denied")]
        {
            bundle.args(&[program]);
            let said = bundle.call("run", &[]);
            assert_ne!(said.code, Some(0));
            assert!(said.err.contains(text), "{runtime:?}: {}", said.err);
        }
        bundle.assert_gone();
    }
}

#[test]
fn every_process_of_a_container_without_pid_namespace_goes_with_it() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "pid");
        bundle.script("sleep 1000 & sleep 1000 & exec sleep 1000");
        bundle.create();
        bundle.done("start", &[]);
        while bundle.cgroup().pids().unwrap().len() < 3 {
            std::thread::yield_now();
        }
        bundle.done("kill", &["KILL"]);
        bundle.until("stopped");
        bundle.done("delete", &["--force"]);
        bundle.assert_gone();
    }
}

#[test]
fn hooks_run_in_their_order_with_the_state_on_stdin() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        let log = bundle.path().join("hooks.log");
        let hook = |name: &str| {
            let script = format!("echo {name} $(grep -o '\"status\": *\"[a-z]*\"') >> {}", log.display());
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 10 }])
        };
        bundle.config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "poststart": hook("poststart"), "poststop": hook("poststop"),
            "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo startContainer > /tmp/started"] }],
        });
        let said = bundle.run("cat /tmp/started");
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(0), "startContainer\n"),
            "{runtime:?}: {}",
            said.err
        );
        let text = std::fs::read_to_string(&log).unwrap();
        let order: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(
            order,
            ["prestart", "createRuntime", "createContainer", "poststart", "poststop"],
            "{runtime:?}"
        );
        assert!(text.contains("createRuntime \"status\":\"creating\""), "{runtime:?}: {text}");
        assert!(text.contains("poststop \"status\":\"stopped\""), "{runtime:?}: {text}");
    }
}

#[test]
fn a_hook_that_fails_or_hangs_undoes_the_creation() {
    for (script, text) in [("echo bad luck >&2; exit 3", "bad luck"), ("exec sleep 1000", "timeout")] {
        for kind in ["createRuntime", "createContainer", "prestart"] {
            let mut bundle = Bundle::new(Runtime::Ours);
            let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], "timeout": 1 }]);
            bundle.config["hooks"] = json!({ kind: hook });
            let said = bundle.run("true");
            assert_ne!(said.code, Some(0));
            assert!(said.err.contains(text) && said.err.contains(kind), "{}", said.err);
            bundle.assert_gone();
        }
    }
}

#[test]
fn a_creation_killed_at_any_step_is_cleared_by_delete() {
    for point in ["oci-create-recorded", "oci-create-spawned", "oci-create-done"] {
        let bundle = Bundle::new(Runtime::Ours);
        let mut create = bundle.command("create", &[], &[]);
        let status = create.env("CLEAT_CRASH_AT", point).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status.unwrap()), Some(9), "{point}");
        bundle.done("delete", &["--force"]);
        bundle.assert_gone();
    }
    let bundle = Bundle::new(Runtime::Ours);
    bundle.create();
    let mut delete = bundle.command("delete", &["--force"], &[]);
    assert!(!delete.env("CLEAT_CRASH_AT", "oci-delete-cgroup-removed").status().unwrap().success());
    bundle.done("delete", &[]);
    bundle.assert_gone();
}

#[test]
fn limits_change_while_it_runs() {
    for runtime in all() {
        let bundle = Bundle::new(runtime);
        bundle.create();
        bundle.done("update", &["--memory", "33554432", "--pids-limit", "20"]);
        let stats = bundle.cgroup().stats().unwrap();
        assert_eq!((stats.memory.limit, stats.pids_limit), (Some(32 << 20), Some(20)), "{runtime:?}");
    }
}

#[test]
fn a_limit_of_memory_kills_and_is_counted() {
    for runtime in all() {
        let mut bundle = Bundle::new(runtime);
        bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 20 << 20, "swap": 20 << 20 });
        bundle.script("x=0123456789abcdef; while true; do x=$x$x; done");
        bundle.create();
        bundle.done("start", &[]);
        bundle.until("stopped");
        assert!(bundle.cgroup().oom_kills().unwrap() > 0, "{runtime:?}");
    }
}

/// The cgroup of a container is killed and removed with it: it must not be anybody else's.
#[test]
fn a_cgroup_that_holds_processes_is_refused() {
    let first = Bundle::new(Runtime::Ours);
    first.create();
    let own = first.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    let parent = own.trim_end_matches("/container");
    for path in [own.as_str(), parent, "/"] {
        let mut second = Bundle::new(Runtime::Ours);
        second.config["linux"]["cgroupsPath"] = json!(path);
        let said = second.run("true");
        assert!(said.code != Some(0) && said.err.contains("of others"), "{path}: {}", said.err);
    }
    assert_eq!(first.status(), "created");
}
