//! Create, start, end, delete; states and refusals; restarts of the CRI server.

use std::fs;

use proto_node::monitor::{
    ContainerStatus, ErrorKind, Event, ExitRecord, Request, Response, Runtime, VERSION,
};

use crate::fixture::{Options, Pod};
use crate::with_both_runtimes;

with_both_runtimes! {
    a_container_from_begin_to_end
    the_record_is_there_before_anybody_is_told
    a_signal_is_an_exit_code
    refusals
    a_missing_program_leaves_nothing
    the_cri_server_comes_and_goes
    a_created_container_can_be_killed
    out_of_memory
    many_at_once
    resources_can_change
    everybody_is_killed
    a_creation_that_hangs_is_given_up
}

fn a_container_from_begin_to_end(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let create = pod.container("a", "echo out; echo err >&2; printf tail; exit 7", &Options::default());
    let pid = pod.create(&create);
    assert_eq!(pod.status().containers["a"], ContainerStatus::Created { pid });
    assert_eq!(fs::read_to_string(pod.log_path("a")).unwrap(), "");
    pod.done(&Request::Start { container: "a".into() });
    let exit = pod.wait("a");
    assert_eq!((exit.exit_code, exit.oom_killed), (7, false));
    let mut log = pod.log("a");
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout P tail"]);
    assert_eq!(pod.status().containers["a"], ContainerStatus::Exited(exit.clone()));
    assert_eq!(pod.wait("a"), exit);
    pod.delete("a");
    assert!(pod.status().containers.is_empty());
    pod.delete("a");
}

fn the_record_is_there_before_anybody_is_told(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let watch = pod.ask(&Request::Watch);
    assert_eq!(watch.response(), Response::Done);
    pod.run("a", "exit 3", &Options::default());
    let Response::Event(Event::Exited { container, exit }) = watch.response() else { panic!() };
    let record: ExitRecord =
        serde_json::from_slice(&fs::read(pod.bundle("a").join("exit.json")).unwrap()).unwrap();
    assert_eq!((container.as_str(), &exit), ("a", &record));
    assert_eq!((record.version, record.exit_code), (VERSION, 3));
}

fn a_signal_is_an_exit_code(runtime: Runtime) {
    let pod = Pod::new(runtime);
    for (id, signal, all) in [("a", 9, false), ("b", 9, true)] {
        pod.run(id, "while :; do sleep 1000; done", &Options::default());
        pod.done(&Request::Kill { container: id.into(), signal, all });
        assert_eq!(pod.wait(id).exit_code, 137);
        // Ended already: no error.
        pod.done(&Request::Kill { container: id.into(), signal, all });
    }
    // Number 1 of a PID namespace gets only the signals it handles.
    pod.run("c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done", &Options::default());
    pod.log_has("c", "ready");
    pod.kill("c", 15);
    assert_eq!(pod.wait("c").exit_code, 5);
}

fn refusals(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let name = || "a".to_owned();
    for request in [
        Request::Start { container: name() },
        Request::Kill { container: name(), signal: 9, all: false },
        Request::Wait { container: name() },
        Request::ReopenLog { container: name() },
        Request::Resize { container: name(), width: 80, height: 25 },
    ] {
        let (kind, message) = pod.refused(&request);
        assert_eq!(kind, ErrorKind::NotFound, "{message}");
    }
    pod.run("a", "sleep 1000", &Options::default());
    let create = pod.container("a", "true", &Options::default());
    for request in [
        Request::Create(create),
        Request::Start { container: name() },
        Request::Delete { container: name() },
        Request::Resize { container: name(), width: 80, height: 25 },
        Request::Shutdown,
    ] {
        let (kind, message) = pod.refused(&request);
        assert_eq!(kind, ErrorKind::FailedPrecondition, "{message}");
    }
    let (kind, _) = pod.refused(&Request::Kill { container: name(), signal: 65, all: false });
    assert_eq!(kind, ErrorKind::InvalidArgument);
    let (kind, _) = pod.refused(&Request::Attach { container: name() });
    assert_eq!(kind, ErrorKind::InvalidArgument);
}

fn a_missing_program_leaves_nothing(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let create = pod.container("a", "", &Options::default());
    let config = create.bundle.join("config.json");
    let spec = fs::read_to_string(&config).unwrap().replace("/bin/sh", "/bin/none");
    fs::write(&config, spec).unwrap();
    // runc looks for the program when it creates, ours when it starts at the latest.
    let message = match pod.ask(&Request::Create(create)).response() {
        Response::Error { message, .. } => message,
        Response::Created { .. } => {
            let (_, message) = pod.refused(&Request::Start { container: "a".into() });
            pod.wait("a");
            pod.delete("a");
            message
        }
        other => panic!("{other:?}"),
    };
    assert!(message.contains("/bin/none"), "{message}");
    assert!(pod.status().containers.is_empty());
    assert!(!pod.dir.path().join("oci/a").exists());
}

fn the_cri_server_comes_and_goes(runtime: Runtime) {
    let pod = Pod::new(runtime);
    // It dies while it waits for a creation, and while it watches and waits.
    drop(pod.ask(&Request::Create(pod.container("a", "echo one; exit 4", &Options::default()))));
    crate::fixture::until("a created container", || pod.status().containers.contains_key("a"));
    drop(pod.ask(&Request::Watch));
    drop(pod.ask(&Request::Wait { container: "a".into() }));
    drop(pod.ask(&Request::Start { container: "a".into() }));
    crate::fixture::until("the exit", || matches!(pod.status().containers["a"], ContainerStatus::Exited(_)));
    assert_eq!(pod.wait("a").exit_code, 4);
    assert_eq!(pod.log("a"), ["stdout F one"]);
}

fn a_created_container_can_be_killed(runtime: Runtime) {
    let pod = Pod::new(runtime);
    pod.create(&pod.container("a", "echo never", &Options::default()));
    pod.kill("a", 9);
    assert_eq!(pod.wait("a").exit_code, 137);
    assert_eq!(pod.log("a"), [""; 0]);
}

fn out_of_memory(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let options = Options { memory: Some(16 << 20), ..Options::default() };
    pod.run("a", "exec head -c 64m /dev/zero | tail -c 64m >/dev/null", &options);
    assert!(pod.wait("a").oom_killed);
    pod.run("b", "exec tail -c 64m /dev/zero", &options);
    let exit = pod.wait("b");
    assert_eq!((exit.exit_code, exit.oom_killed), (137, true));
}

fn many_at_once(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let ids: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let creates = ids.iter().map(|id| pod.container(id, &format!("echo {id}"), &Options::default()));
    let asked: Vec<_> = creates.map(|create| pod.ask(&Request::Create(create))).collect();
    for connection in asked {
        let response = connection.response();
        assert!(matches!(response, Response::Created { .. }), "{response:?}");
    }
    let asked: Vec<_> = ids.iter().map(|id| pod.ask(&Request::Start { container: id.clone() })).collect();
    asked.iter().for_each(|connection| assert_eq!(connection.response(), Response::Done));
    for id in &ids {
        assert_eq!(pod.wait(id).exit_code, 0);
        assert_eq!(pod.log(id), [format!("stdout F {id}")]);
    }
    let asked: Vec<_> = ids.iter().map(|id| pod.ask(&Request::Delete { container: id.clone() })).collect();
    asked.iter().for_each(|connection| assert_eq!(connection.response(), Response::Done));
}

fn resources_can_change(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let options = Options { memory: Some(64 << 20), ..Options::default() };
    let pid = pod.run("a", "while :; do sleep 1000; done", &options);
    let limit = || {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let of = |controller: &str| {
            cgroups.lines().find_map(|line| line.split_once(controller)).map(|found| found.1.to_owned())
        };
        let file = match of(":memory:") {
            Some(path) => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
            None => format!("/sys/fs/cgroup{}/memory.max", of("0::").unwrap()),
        };
        fs::read_to_string(file).unwrap().trim().parse::<u64>().unwrap()
    };
    assert_eq!(limit(), 64 << 20);
    let resources = serde_json::json!({"memory": {"limit": 96 << 20}});
    pod.done(&Request::Update { container: "a".into(), resources });
    assert_eq!(limit(), 96 << 20);
    let resources = serde_json::json!({"memory": {"limit": "much"}});
    pod.refused(&Request::Update { container: "a".into(), resources });
    pod.kill("a", 9);
    pod.wait("a");
    let (kind, _) = pod.refused(&Request::Update { container: "a".into(), resources: serde_json::json!({}) });
    assert_eq!(kind, ErrorKind::FailedPrecondition);
}

fn everybody_is_killed(runtime: Runtime) {
    let pod = Pod::with(runtime, |config| config.shared_pid = true);
    let options = Options { shared_pid: true, ..Options::default() };
    let script = "setsid sleep 1000 & (setsid sleep 1000 &) ; echo $$ started; while :; do sleep 1000; done";
    pod.run("a", script, &options);
    pod.log_has("a", "started");
    pod.run("b", "while :; do sleep 1000; done", &options);
    pod.done(&Request::Kill { container: "a".into(), signal: 9, all: true });
    assert_eq!(pod.wait("a").exit_code, 137);
    // Of the namespace only those of the other container and pause are left.
    let pid = match pod.status().containers["b"] {
        ContainerStatus::Running { pid, .. } => pid,
        ref other => panic!("{other:?}"),
    };
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    let inside = || {
        let all = linux::stat::all().unwrap().into_iter().filter(|(_, stat)| stat.state != 'Z');
        all.filter(|(pid, _)| {
            fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|found| found == namespace)
        })
        .count()
    };
    // pause, the shell, and its sleep.
    crate::fixture::until("three processes", || inside() == 3);
}

fn a_creation_that_hangs_is_given_up(runtime: Runtime) {
    let pod = Pod::new(runtime);
    let marker = format!("{}", 200_000 + std::process::id());
    for request in [
        Request::Delete { container: "a".into() },
        Request::Kill { container: "a".into(), signal: 15, all: false },
    ] {
        let create = pod.container("a", "true", &Options::default());
        let config = create.bundle.join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        let hook = serde_json::json!({"path": "/bin/sleep", "args": ["sleep", marker]});
        spec["hooks"] = serde_json::json!({"createRuntime": [hook]});
        fs::write(&config, spec.to_string()).unwrap();
        let asked = pod.ask(&Request::Create(create));
        let hook = || {
            let all = linux::stat::all().unwrap().into_iter().map(|(pid, _)| pid);
            all.filter(|pid| {
                fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line == format!("sleep\0{marker}\0").as_bytes())
            })
            .collect::<Vec<_>>()
        };
        crate::fixture::until("a hook that hangs", || !hook().is_empty());
        // The pod's other containers do not notice.
        pod.run("b", "true", &Options::default());
        pod.wait("b");
        pod.delete("b");
        pod.done(&request);
        let Response::Error { kind, .. } = asked.response() else { panic!() };
        assert_eq!(kind, ErrorKind::FailedPrecondition);
        assert!(pod.status().containers.is_empty());
        assert!(!pod.dir.path().join("oci/a").exists());
        crate::fixture::until("the end of the hook", || hook().is_empty());
    }
}
