//! Laws that hold whatever happens: the model node under random exits, faults, dead sandboxes and lapses of time.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::model::*;
use crate::{Object, State};

/// Something that happens to a node.
#[derive(Debug, Clone)]
enum Blow {
    Exit(usize, i32),
    Fault(usize),
    SandboxDies,
    RecordVanishes(usize),
    Pass(i64),
    Probe(usize, usize, bool),
    /// Something that its volumes are made from changes.
    Objects,
    /// Its labels change.
    Relabel(u8),
    /// An app container wants so much CPU, in hundredths of what the node has.
    Resize(u8),
    /// A container to look into the pod with is added.
    Debug,
    End,
    /// The agent starts anew: what it alone knew is lost.
    Restart,
}

const NAMES: [&str; 6] = ["s", "i", "t", "a", "b", "e"];

fn blows() -> impl Strategy<Value = Vec<Blow>> {
    let blow = prop_oneof![
        4 => (0..6_usize, prop_oneof![Just(0), Just(1)]).prop_map(|(n, code)| Blow::Exit(n, code)),
        2 => (0..12_usize).prop_map(Blow::Fault),
        1 => Just(Blow::SandboxDies),
        1 => (0..6_usize).prop_map(Blow::RecordVanishes),
        4 => prop_oneof![Just(1), Just(15), Just(400), Just(700)].prop_map(Blow::Pass),
        2 => (0..5_usize, 0..3_usize, any::<bool>()).prop_map(|(n, k, ok)| Blow::Probe(n, k, ok)),
        1 => Just(Blow::Objects),
        1 => any::<u8>().prop_map(Blow::Relabel),
        1 => (1..150_u8).prop_map(Blow::Resize),
        1 => Just(Blow::Debug),
        1 => Just(Blow::Restart),
        1 => Just(Blow::End),
    ];
    prop::collection::vec(blow, 0..25)
}

fn objects() -> Vec<Object> {
    let mut all = vec![Object::Cgroup, Object::Volumes, Object::Sandbox, Object::Image("i:1".into())];
    for name in ["s", "i", "a"] {
        all.push(Object::Container(name.into()));
        all.push(Object::PostStart(name.into()));
        all.push(Object::PreStop(name.into()));
    }
    all
}

fn strike(model: &mut Model, blow: Blow) {
    use crate::probe::Kind;
    let gone = model.desired.pods.is_empty();
    match blow {
        _ if gone => {}
        Blow::Exit(n, code) => model.exit(NAMES[n], code),
        Blow::Fault(n) => model.faults.push(objects()[n].clone()),
        Blow::SandboxDies => {
            for sandbox in &mut model.seen("u").sandboxes {
                sandbox.ready = false;
            }
        }
        Blow::RecordVanishes(n) => {
            model
                .seen("u")
                .containers
                .retain(|c| c.name != NAMES[n] || matches!(c.state, State::Running { .. }));
        }
        Blow::Pass(seconds) => model.pass(seconds),
        Blow::Probe(n, k, ok) => {
            let running = |c: &&crate::Container| matches!(c.state, State::Running { .. });
            if model.seen("u").latest(NAMES[n]).filter(running).is_some() {
                model.probed(NAMES[n], [Kind::Startup, Kind::Liveness, Kind::Readiness][k], ok);
            }
        }
        Blow::Objects => {
            let now = model.now;
            model.seen("u").volumes_due = Some(now);
        }
        Blow::Relabel(n) => model.change("u", |pod| {
            pod.metadata.labels = Some([("n".to_owned(), n.to_string())].into());
        }),
        Blow::Resize(n) => model.change("u", |pod| resize(pod, n)),
        Blow::Debug => model.change("u", |pod| {
            let debugger = EphemeralContainer {
                name: "e".into(),
                image: Some("i:1".into()),
                ..EphemeralContainer::default()
            };
            pod.spec.as_mut().unwrap().ephemeral_containers = Some(vec![debugger]);
        }),
        Blow::Restart => {
            let seen = model.seen("u");
            (seen.volumes_of, seen.volumes_due) = (None, None);
            seen.failures.clear();
            seen.sandboxes.iter_mut().for_each(|s| s.stopped = false);
            (seen.volumes, seen.cgroup) = (crate::Presence::Unknown, crate::Presence::Unknown);
            model.observed.images.clear();
        }
        Blow::End if model.desired.pods[0].end.is_none() => model.end("u"),
        Blow::End => {}
    }
}

/// Gives the app container `a` a request and a limit.
fn resize(pod: &mut Pod, hundredths: u8) {
    let cpu = BTreeMap::from([("cpu".to_owned(), Quantity(format!("{hundredths}0m")))]);
    let resources = k8s_openapi::api::core::v1::ResourceRequirements {
        requests: Some(cpu.clone()),
        limits: Some(cpu),
        ..Default::default()
    };
    let containers = &mut pod.spec.as_mut().unwrap().containers;
    containers.iter_mut().find(|c| c.name == "a").unwrap().resources = Some(resources);
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, any::<[bool; 6]>()).prop_map(|(policy, flags)| {
        let [hooks, probes, init, sidecars, second, post] = flags;
        let dress = |spec| probed(hooked(spec, post, hooks), probes, probes, probes);
        let mut inits = Vec::new();
        if sidecars {
            inits.push(dress(sidecar("s")));
        }
        if init {
            inits.push(container("i"));
        }
        if sidecars {
            inits.push(sidecar("t"));
        }
        let mut apps = vec![dress(container("a"))];
        if second {
            apps.push(container("b"));
        }
        pod(policy, inits, apps)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happened, planning and applying come to rest (the model checks that no step is out of order), and a
    /// pod that is to end leaves nothing behind.
    #[test]
    fn it_comes_to_rest(pod in any_pod(), blows in blows()) {
        let mut model = Model::with(pod);
        let mut attempts = BTreeMap::new();
        for blow in blows {
            model.settle();
            prop_assert!(model.plan().actions.is_empty());
            strike(&mut model, blow);
            let seen = model.observed.pods.get("u").cloned().unwrap_or_default();
            for container in seen.containers {
                let last = attempts.entry(container.name.clone()).or_insert(0);
                prop_assert!(container.attempt + 1 >= *last, "attempts never fall");
                *last = (*last).max(container.attempt);
            }
        }
        model.faults.clear();
        if !model.desired.pods.is_empty() && model.desired.pods[0].end.is_none() {
            model.end("u");
        }
        for _ in 0..200 {
            model.settle();
            model.pass(60);
        }
        prop_assert!(model.desired.pods.is_empty(), "the pod is gone");
        let done = model.take();
        prop_assert_eq!(done.last().map(String::as_str), Some("forget"));
    }

    /// No plan touches an object twice, or one that is being worked on.
    #[test]
    fn one_action_an_object(pod in any_pod(), blows in blows(), busy in any::<u16>()) {
        let mut model = Model::with(pod);
        for blow in blows {
            for _ in 0..3 {
                let some: Vec<Object> =
                    objects().into_iter().enumerate().filter(|(n, _)| busy >> n & 1 == 1).map(|(_, o)| o).collect();
                if !model.desired.pods.is_empty() {
                    model.seen("u").in_flight = some.iter().cloned().collect();
                }
                let plan = model.plan();
                let mut objects: Vec<Object> = plan.actions.iter().map(|a| a.action.object()).collect();
                prop_assert!(objects.iter().all(|o| !some.contains(o) || matches!(o, Object::Image(_))));
                let all = objects.len();
                objects.sort();
                objects.dedup();
                prop_assert_eq!(objects.len(), all);
                for action in plan.actions {
                    model.apply(action);
                }
            }
            strike(&mut model, blow);
        }
    }

    /// A status is a function of what is there: asking again changes nothing, and phases only go forward.
    #[test]
    fn statuses_are_stable(pod in any_pod(), blows in blows()) {
        let mut model = Model::with(pod);
        let mut order = 0;
        for blow in blows {
            model.settle();
            if model.desired.pods.is_empty() {
                break;
            }
            let status = model.status();
            prop_assert_eq!(&status, &model.status());
            let rank = match status.phase.as_deref() {
                Some("Pending") => 0,
                Some("Running") => 1,
                _ => 2,
            };
            prop_assert!(rank >= order || order < 2, "an ended pod stays ended");
            order = rank;
            strike(&mut model, blow);
        }
    }

    /// What never starts again has ended for good: the API server refuses a status that says otherwise, and does so for
    /// each that is told, those between two actions and those while they are under way.
    #[test]
    fn what_has_ended_stays_so(pod in any_pod(), blows in blows()) {
        let mut model = Model::with(pod);
        let mut told = PodStatus::default();
        for blow in blows.into_iter().map(Some).chain([None]) {
            match blow {
                Some(blow) => strike(&mut model, blow),
                None if model.desired.pods.first().is_some_and(|pod| pod.end.is_none()) => model.end("u"),
                None => {}
            }
            for _ in 0..200 {
                let Some(desired) = model.desired.pods.first() else { break };
                let pod = desired.pod.clone();
                let mut plan = model.plan();
                told = follows(&pod, &told, plan.pods.remove("u").unwrap().status)?;
                let objects = plan.actions.iter().map(|a| a.action.object());
                model.seen("u").in_flight = objects.filter(|o| !matches!(o, Object::Image(_))).collect();
                told = follows(&pod, &told, model.status())?;
                model.seen("u").in_flight.clear();
                if plan.actions.is_empty() {
                    break;
                }
                for action in plan.actions {
                    model.apply(action);
                }
            }
        }
    }
}

/// The status that follows another, unless the API server refuses it.
fn follows(pod: &Pod, told: &PodStatus, next: PodStatus) -> Result<PodStatus, TestCaseError> {
    let of = |status: &PodStatus| {
        let all = status.container_statuses.clone().unwrap_or_default();
        all.into_iter()
            .filter_map(|s| Some((s.name, s.state?.terminated?.exit_code)))
            .collect::<BTreeMap<_, _>>()
    };
    let now = of(&next);
    for (name, exit_code) in of(told) {
        let spec = crate::pod::containers(pod).iter().find(|spec| spec.name == name).unwrap();
        let stays = now.contains_key(&name) || crate::pod::restarts(pod, spec, exit_code);
        prop_assert!(stays, "{name} had ended with {exit_code}, and came back");
    }
    Ok(next)
}
