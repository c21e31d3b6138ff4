//! The plan of one pod, step by step, on a model node.

mod api;
mod laws;
mod model;

use k8s_openapi::api::core::v1::PodStatus;

use self::model::*;
use crate::probe::Kind;
use crate::{Action, Object, State, Termination};

fn phase(model: &mut Model) -> String {
    model.status().phase.unwrap()
}

/// Each container's state in a word: `run`, `exit 0`, or the reason it waits; with `+` when it is ready.
fn states(model: &mut Model) -> String {
    let status = model.status();
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let words = all.map(|s| {
        let state = s.state.clone().unwrap();
        let word = match (state.running, state.terminated, state.waiting) {
            (Some(_), _, _) => "run".to_owned(),
            (_, Some(t), _) => format!("exit {}", t.exit_code),
            (_, _, w) => w.unwrap().reason.unwrap(),
        };
        format!("{}={word}{}", s.name, if s.ready { "+" } else { "" })
    });
    words.collect::<Vec<_>>().join(" ")
}

fn condition(model: &mut Model, kind: &str) -> String {
    let conditions = model.status().conditions.unwrap();
    let found = conditions.into_iter().find(|c| c.type_ == kind).unwrap();
    format!("{} {}", found.status, found.reason.unwrap_or_default()).trim().to_owned()
}

#[test]
fn a_pod_comes_and_goes() {
    let mut model = Model::with(pod("Always", vec![container("i")], vec![container("a"), container("b")]));
    let plan = model.plan();
    assert_eq!(
        plan.actions.iter().map(|a| word(&a.action)).collect::<Vec<_>>(),
        ["image i:1", "cgroup", "volumes"]
    );
    assert_eq!(phase(&mut model), "Pending");
    model.settle();
    assert_eq!(model.take(), ["image i:1", "cgroup", "volumes", "sandbox 0", "create i 0", "start i"]);
    assert_eq!(states(&mut model), "i=run a=PodInitializing b=PodInitializing");
    assert_eq!(condition(&mut model, "Initialized"), "False ContainersNotInitialized");
    model.exit("i", 0);
    model.settle();
    assert_eq!(model.take(), ["create a 0", "create b 0", "start a", "start b"]);
    assert_eq!(states(&mut model), "i=exit 0+ a=run+ b=run+");
    assert_eq!(phase(&mut model), "Running");
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&mut model, kind), "True", "{kind}");
    }
    let status = model.status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(status.container_statuses.unwrap()[0].container_id.as_deref(), Some("cleat://0007"));
    model.end("u");
    model.settle();
    assert_eq!(
        model.take(),
        [
            "stop a 30s",
            "stop b 30s",
            "stop sandbox",
            "remove i",
            "remove a",
            "remove b",
            "remove sandbox",
            "no volumes",
            "no cgroup",
            "forget"
        ]
    );
    assert!(model.desired.pods.is_empty());
}

#[test]
fn crashes_back_off_and_are_counted() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    model.settle();
    let mut delays = Vec::new();
    for attempt in 0..6 {
        model.pass(1);
        model.exit("a", 1);
        model.take();
        let plan = model.plan();
        let until = plan.wake_at.filter(|_| plan.actions.is_empty());
        let wait = until.map_or(0, |at| at.duration_since(model.now).as_secs());
        if wait > 0 {
            assert_eq!(states(&mut model), "a=CrashLoopBackOff");
            model.pass(wait - 1);
            assert!(model.plan().actions.is_empty());
            model.pass(1);
        }
        delays.push(wait);
        model.settle();
        let status = &model.status().container_statuses.unwrap()[0];
        assert_eq!(status.restart_count, attempt + 1);
        assert_eq!(status.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    }
    assert_eq!(delays, [0, 10, 20, 40, 80, 160]);
    assert_eq!(model.seen("u").containers.len(), 2, "one dead attempt is kept");
    model.pass(600);
    model.exit("a", 1);
    assert_eq!(model.plan().actions.len(), 1, "ten minutes forgive");
}

#[test]
fn restart_policies() {
    for (policy, exit_code, restarted, end) in [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ] {
        let mut model = Model::with(pod(policy, vec![], vec![container("a")]));
        model.settle();
        model.exit("a", exit_code);
        model.settle();
        let attempts = model.seen("u").containers.len();
        assert_eq!((attempts == 2, phase(&mut model).as_str()), (restarted, end), "{policy} {exit_code}");
        if !restarted {
            assert_eq!(model.take().last().unwrap(), "no volumes", "its sandbox and volumes go");
            let status = model.status().container_statuses.unwrap();
            assert_eq!(status[0].state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, exit_code);
        }
    }
}

#[test]
fn a_failed_init_container_fails_the_pod_or_is_tried_again() {
    let mut model = Model::with(pod("Never", vec![container("i")], vec![container("a")]));
    model.settle();
    model.exit("i", 3);
    model.settle();
    assert_eq!(phase(&mut model), "Failed");
    assert_eq!(states(&mut model), "i=exit 3 a=PodInitializing");
    let mut model = Model::with(pod("Always", vec![container("i")], vec![container("a")]));
    model.settle();
    model.exit("i", 3);
    model.settle();
    assert_eq!(model.seen("u").latest("i").unwrap().attempt, 1);
    model.exit("i", 3);
    assert_eq!(states(&mut model), "i=CrashLoopBackOff a=PodInitializing");
    assert_eq!(phase(&mut model), "Pending");
}

#[test]
fn sidecars_start_before_and_stop_after() {
    let init = vec![probed(sidecar("s"), true, false, false), container("i"), sidecar("t")];
    let mut model = Model::with(pod("Never", init, vec![container("a")]));
    model.settle();
    assert_eq!(model.take().last().unwrap(), "start s");
    model.probed("s", Kind::Startup, true);
    model.settle();
    assert_eq!(model.take().last().unwrap(), "start i", "the startup probe lets the next go");
    model.exit("i", 0);
    model.settle();
    assert_eq!(model.take(), ["create t 0", "start t", "create a 0", "start a"]);
    model.exit("s", 1);
    model.settle();
    assert_eq!(model.take(), ["create s 1", "start s"], "a sidecar is kept running");
    model.exit("a", 0);
    let sequence = ["stop t 30s", "stop s 30s", "stop sandbox", "no volumes"];
    model.settle();
    assert_eq!(model.take(), sequence, "sidecars do not hold up the end");
    assert_eq!(phase(&mut model), "Succeeded");
}

#[test]
fn termination_runs_hooks_at_once_and_stops_in_order() {
    let init = vec![hooked(sidecar("s"), false, true)];
    let mut model =
        Model::with(pod("Always", init, vec![hooked(container("a"), true, true), container("b")]));
    model.settle();
    assert_eq!(model.take()[6..], ["create a 0", "create b 0", "start a", "postStart a", "start b"]);
    model.end("u");
    let words = |model: &mut Model| model.plan().actions.iter().map(|a| word(&a.action)).collect::<Vec<_>>();
    let plan = model.plan();
    assert_eq!(
        plan.actions.iter().map(|a| word(&a.action)).collect::<Vec<_>>(),
        ["preStop s", "preStop a", "stop b 30s"]
    );
    for action in plan.actions {
        model.apply(action);
    }
    model.pass(10);
    assert_eq!(words(&mut model), ["stop a 20s"]);
    let a = model.plan().actions;
    model.apply(a[0].clone());
    model.pass(25);
    assert_eq!(words(&mut model), ["stop s 2s"], "there is always a moment");
}

/// Of two ends the earlier one counts, also for what is being stopped by the later one.
#[test]
fn a_shorter_grace_hurries_what_is_being_stopped() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    model.settle();
    let words = |model: &mut Model| model.plan().actions.iter().map(|a| word(&a.action)).collect::<Vec<_>>();
    let end = |model: &mut Model, grace_seconds| {
        let requested_at = model.now;
        model.desired.pods[0].end = Some(Termination { requested_at, grace_seconds });
    };
    let begin = |model: &mut Model| {
        let (now, action) = (model.now, model.plan().actions.remove(0).action);
        model.seen("u").begin(&action, now);
    };
    end(&mut model, 300);
    assert_eq!(words(&mut model), ["stop a 300s"]);
    begin(&mut model);
    assert_eq!(words(&mut model), [""; 0]);
    model.pass(10);
    assert_eq!(words(&mut model), [""; 0]);
    end(&mut model, 5);
    assert_eq!(words(&mut model), ["hurry a 5s"]);
    begin(&mut model);
    assert_eq!(words(&mut model), [""; 0]);
    model.pass(1);
    assert_eq!(words(&mut model), [""; 0], "it has no less time than it was given");
}

/// Somebody has called a pod failed while its node was away, and could not delete it.
#[test]
fn what_has_ended_for_the_api_ends_here() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    model.settle();
    model.take();
    let now = model.now;
    let told = |phase: &str| PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
    model.seen("u").hear(&told("Running"), now);
    model.settle();
    model.seen("u").hear(&told("Failed"), now);
    model.settle();
    assert_eq!(model.take(), ["stop a 30s", "stop sandbox", "no volumes"]);
    assert_eq!(phase(&mut model), "Failed");
}

#[test]
fn a_sidecar_does_not_wait_for_ever_for_its_turn() {
    let mut model = Model::with(pod("Always", vec![sidecar("s")], vec![container("a")]));
    model.settle();
    model.end("u");
    let flight = Object::Container("a".into());
    model.seen("u").in_flight.insert(flight);
    assert!(model.plan().actions.is_empty());
    model.pass(30);
    assert_eq!(word(&model.plan().actions[0].action), "stop s 2s");
}

#[test]
fn probes_gate_and_kill() {
    let mut model = Model::with(pod("Always", vec![], vec![probed(container("a"), true, true, true)]));
    model.settle();
    let kinds = |model: &mut Model| {
        let view = model.plan().pods.remove("u").unwrap();
        view.probes.into_iter().map(|t| t.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&mut model), [Kind::Startup]);
    assert_eq!(states(&mut model), "a=run");
    model.probed("a", Kind::Startup, true);
    assert_eq!(kinds(&mut model), [Kind::Liveness, Kind::Readiness]);
    assert_eq!(condition(&mut model, "Ready"), "False ContainersNotReady");
    model.probed("a", Kind::Readiness, true);
    assert_eq!(states(&mut model), "a=run+");
    model.take();
    model.probed("a", Kind::Liveness, false);
    model.settle();
    assert_eq!(model.take(), ["stop a 30s", "create a 1", "start a"]);
    assert_eq!(states(&mut model), "a=run", "what was known of the old attempt is not of the new one");
}

/// A service that has no other endpoints goes on to lead there.
#[test]
fn who_ends_is_ready_until_it_has() {
    let mut model = Model::with(pod("Always", vec![], vec![probed(container("a"), false, true, true)]));
    model.settle();
    model.probed("a", Kind::Readiness, true);
    model.end("u");
    let targets = model.plan().pods.remove("u").unwrap().probes;
    assert_eq!(targets.iter().map(|t| t.kind).collect::<Vec<_>>(), [Kind::Readiness]);
    assert_eq!((states(&mut model).as_str(), condition(&mut model, "Ready").as_str()), ("a=run+", "True"));
    model.probed("a", Kind::Readiness, false);
    assert_eq!(states(&mut model), "a=run");
    model.probed("a", Kind::Readiness, true);
    model.exit("a", 0);
    assert_eq!(states(&mut model), "a=exit 0");
}

#[test]
fn a_failed_post_start_hook_kills() {
    let mut model = Model::with(pod("Never", vec![], vec![hooked(container("a"), true, false)]));
    model.faults.push(Object::PostStart("a".into()));
    model.settle();
    assert_eq!(
        model.take()[4..],
        ["create a 0", "start a", "postStart a", "stop a 30s", "stop sandbox", "no volumes"]
    );
    assert_eq!(phase(&mut model), "Failed");
}

#[test]
fn images_back_off() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    model.faults = vec![Object::Image("i:1".into()); 2];
    model.settle();
    assert_eq!(states(&mut model), "a=ErrImagePull");
    model.pass(10);
    model.settle();
    assert_eq!(states(&mut model), "a=ImagePullBackOff");
    model.pass(19);
    assert!(model.plan().actions.is_empty());
    model.pass(1);
    model.settle();
    assert_eq!(states(&mut model), "a=run+");
    let mut bad = pod("Always", vec![], vec![container("a")]);
    bad.spec.as_mut().unwrap().containers[0].image = Some("Bad Name".into());
    let mut model = Model::with(bad);
    model.settle();
    assert_eq!(states(&mut model), "a=InvalidImageName");
}

#[test]
fn always_pulls_again_before_each_start() {
    let mut spec = container("a");
    spec.image_pull_policy = Some("Always".into());
    let mut model = Model::with(pod("Always", vec![], vec![spec]));
    model.settle();
    model.pass(5);
    model.exit("a", 1);
    model.pass(1);
    model.take();
    model.settle();
    assert_eq!(model.take(), ["image i:1", "create a 1", "start a"]);
}

#[test]
fn a_dead_sandbox_is_replaced_and_init_containers_run_again() {
    let mut model = Model::with(pod("Always", vec![container("i")], vec![container("a")]));
    model.settle();
    model.exit("i", 0);
    model.settle();
    model.take();
    model.seen("u").sandboxes[0].ready = false;
    model.settle();
    assert_eq!(model.take(), ["stop a 30s", "stop sandbox", "sandbox 1", "create i 1", "start i"]);
    model.pass(60);
    model.exit("i", 0);
    model.settle();
    assert_eq!(model.take(), ["create a 1", "start a"]);
    assert_eq!(model.seen("u").sandboxes.len(), 2, "its dead containers keep the old sandbox");
}

#[test]
fn a_dead_sandbox_ends_a_pod_that_never_restarts() {
    let mut model = Model::with(pod("Never", vec![], vec![container("a")]));
    model.settle();
    model.seen("u").sandboxes[0].ready = false;
    model.take();
    model.settle();
    assert_eq!(model.take(), ["stop a 30s", "stop sandbox", "no volumes"]);
    assert_eq!(phase(&mut model), "Failed");
}

#[test]
fn an_active_deadline_ends_the_pod() {
    let mut limited = pod("Always", vec![], vec![container("a")]);
    limited.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let mut model = Model::with(limited);
    model.settle();
    let wake_at = model.plan().wake_at.unwrap();
    assert_eq!(wake_at.duration_since(model.now).as_secs(), 60);
    model.pass(60);
    model.take();
    model.settle();
    assert_eq!(model.take(), ["stop a 30s", "stop sandbox", "no volumes"]);
    let status = model.status();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn pods_in_each_others_way_wait() {
    let port = |name: &str| {
        let mut spec = container("a");
        let port = k8s_openapi::api::core::v1::ContainerPort {
            container_port: 80,
            host_port: Some(80),
            ..Default::default()
        };
        spec.ports = Some(vec![port]);
        let mut pod = pod("Always", vec![], vec![spec]);
        pod.metadata.name = Some(name.into());
        pod
    };
    let mut model = Model::new();
    model.add("u1", port("p"));
    model.add("u", port("q"));
    model.settle();
    let status = model.status();
    assert_eq!(status.reason.as_deref(), Some("Unschedulable"));
    assert_eq!(condition(&mut model, "PodScheduled"), "False Unschedulable");
    assert!(status.message.unwrap().starts_with("hostPort 80/TCP is in use by pod d/p"));
    model.end("u1");
    model.settle();
    assert_eq!(phase(&mut model), "Running", "the port is free again");
    // An edited pod comes after the one it replaces.
    model.end("u");
    model.add("u2", port("q"));
    let plan = model.plan();
    assert!(plan.actions.iter().all(|a| a.uid == "u"));
    assert_eq!(plan.pods["u2"].waits[0].what, "the earlier pod d/q is still ending");
}

#[test]
fn what_is_being_done_is_not_done_again() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    for action in model.plan().actions {
        match action.action.object() {
            Object::Image(image) => model.observed.images.entry(image).or_default().in_flight = true,
            object => drop(model.seen("u").in_flight.insert(object)),
        }
    }
    assert!(model.plan().actions.is_empty());
    model.end("u");
    assert!(
        model.plan().actions.iter().all(|a| a.action != Action::Forget),
        "nothing is forgotten meanwhile"
    );
}

#[test]
fn a_removed_record_still_counts() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    model.settle();
    model.plan();
    model.seen("u").containers.clear();
    let status = model.status().container_statuses.unwrap();
    let last = status[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(last.reason.as_deref(), Some("ContainerStatusUnknown"));
    model.settle();
    assert_eq!(model.status().container_statuses.unwrap()[0].restart_count, 1);
    assert!(matches!(model.seen("u").containers[0].state, State::Running { .. }));
}

#[test]
fn failed_actions_wait_and_say_why() {
    let mut model = Model::with(pod("Always", vec![], vec![container("a")]));
    model.faults.push(Object::Sandbox);
    model.settle();
    assert_eq!(model.status().reason, None);
    assert_eq!(condition(&mut model, "PodReadyToStartContainers"), "False FailedCreatePodSandBox");
    model.pass(1);
    model.faults.push(Object::Container("a".into()));
    model.settle();
    assert_eq!(states(&mut model), "a=Failed");
    model.pass(1);
    model.settle();
    assert_eq!(states(&mut model), "a=run+");
}
