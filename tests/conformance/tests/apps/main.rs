//! The texts about apps, the scheduler, and kubectl.

mod cron_jobs;
mod daemons;
mod deployments;
mod disruption;
mod guestbook;
mod jobs;
mod kubectl;
mod limits;
mod preemption;
mod proxy;
mod replicas;
mod scheduling;
mod stateful_sets;
mod workload;

use conformance::{Case, cases};

/// Those that wait for minutes to pass are the first.
const CASES: &[Case] = cases! {
    "[sig-apps] CronJob should not schedule jobs when suspended [Slow] [Conformance]" => | cron_jobs::suspended,
    "[sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow] [Conformance]" => | cron_jobs::forbidden,
    "[sig-apps] CronJob should replace jobs when ReplaceConcurrent [Conformance]" => | cron_jobs::replaced,
    "[sig-apps] CronJob should schedule multiple jobs concurrently [Conformance]" => | cron_jobs::concurrent,
    "[sig-apps] CronJob should support CronJob API operations [Conformance]" => | cron_jobs::operations,
    "[sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision [Conformance]" => | daemons::revisions,
    "[sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets [Conformance]" => | |bed| workload::collection(bed, "daemonsets"),
    "[sig-apps] Daemon set [Serial] should retry creating failed daemon pods [Conformance]" => | daemons::retried,
    "[sig-apps] Daemon set [Serial] should rollback without unnecessary restarts [Conformance]" => | daemons::rollback,
    "[sig-apps] Daemon set [Serial] should run and stop complex daemon [Conformance]" => | daemons::complex,
    "[sig-apps] Daemon set [Serial] should run and stop simple daemon [Conformance]" => | daemons::simple,
    "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate [Conformance]" => | daemons::rolling_update,
    "[sig-apps] Daemon set [Serial] should verify changes to a daemon set status [Conformance]" => | daemons::status,
    "[sig-apps] Deployment Deployment should have a working scale subresource [Conformance]" => | |bed| workload::scale(bed, "deployments"),
    "[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones [Conformance]" => | deployments::recreate,
    "[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]" => | deployments::rolling_update,
    "[sig-apps] Deployment deployment should delete old replica sets [Conformance]" => | deployments::history,
    "[sig-apps] Deployment deployment should support proportional scaling [Conformance]" => | deployments::proportional,
    "[sig-apps] Deployment deployment should support rollover [Conformance]" => | deployments::rollover,
    "[sig-apps] Deployment should run the lifecycle of a Deployment [Conformance]" => | deployments::lifecycle,
    "[sig-apps] Deployment should validate Deployment Status endpoints [Conformance]" => | |bed| workload::status(bed, "deployments"),
    "[sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets [Conformance]" => | disruption::collection,
    "[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it [Conformance]" => | disruption::blocked,
    "[sig-apps] DisruptionController should create a PodDisruptionBudget [Conformance]" => | disruption::operations,
    "[sig-apps] DisruptionController should observe PodDisruptionBudget status updated [Conformance]" => | disruption::observed,
    "[sig-apps] DisruptionController should update/patch PodDisruptionBudget status [Conformance]" => | disruption::status,
    "[sig-apps] Job should adopt matching orphans and release non-matching pods [Conformance]" => | jobs::adopts_and_releases,
    "[sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition [Conformance]" => | jobs::disruption_ignored,
    "[sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early [Conformance]" => | jobs::failed_early,
    "[sig-apps] Job should apply changes to a job status [Conformance]" => | jobs::status,
    "[sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname [Conformance]" => | jobs::completion_indexes,
    "[sig-apps] Job should delete a job [Conformance]" => | jobs::deleted,
    "[sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex [Conformance]" => | jobs::all_indexes,
    "[sig-apps] Job should manage the lifecycle of a job [Conformance]" => | jobs::lifecycle,
    "[sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy [Conformance]" => | jobs::fail_index,
    "[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted [Conformance]" => | jobs::locally_restarted,
    "[sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes [Conformance]" => | jobs::too_many_failed,
    "[sig-apps] Job with successPolicy should succeeded when all indexes succeeded [Conformance]" => | jobs::all_succeeded,
    "[sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending [Conformance]" => | jobs::enough_succeeded,
    "[sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending [Conformance]" => | jobs::these_succeeded,
    "[sig-apps] ReplicaSet Replace and Patch tests [Conformance]" => | replicas::replaced_and_patched,
    "[sig-apps] ReplicaSet Replicaset should have a working scale subresource [Conformance]" => | |bed| workload::scale(bed, "replicasets"),
    "[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods [Conformance]" => | replicas::set_adopts_and_releases,
    "[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets [Conformance]" => | |bed| workload::collection(bed, "replicasets"),
    "[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]" => | replicas::set_serves,
    "[sig-apps] ReplicaSet should validate Replicaset Status endpoints [Conformance]" => | |bed| workload::status(bed, "replicasets"),
    "[sig-apps] ReplicationController should adopt matching pods on creation [Conformance]" => | replicas::controller_adopts,
    "[sig-apps] ReplicationController should get and update a ReplicationController scale [Conformance]" => | |bed| workload::scale(bed, "replicationcontrollers"),
    "[sig-apps] ReplicationController should release no longer matching pods [Conformance]" => | replicas::controller_releases,
    "[sig-apps] ReplicationController should serve a basic image on each replica with a public image [Conformance]" => | replicas::controller_serves,
    "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota [Conformance]" => | replicas::over_quota,
    "[sig-apps] ReplicationController should test the lifecycle of a ReplicationController [Conformance]" => | replicas::lifecycle,
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods [Slow] [Conformance]" => | stateful_sets::burst,
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow] [Conformance]" => | stateful_sets::in_order,
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset [Conformance]" => | stateful_sets::evicted,
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource [Conformance]" => | |bed| workload::scale(bed, "statefulsets"),
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets [Conformance]" => | |bed| workload::collection(bed, "statefulsets"),
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications [Conformance]" => | stateful_sets::canary,
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications [Conformance]" => | stateful_sets::rolled_back,
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints [Conformance]" => | |bed| workload::status(bed, "statefulsets"),
    "[sig-architecture] Conformance Tests should have at least two untainted nodes [Conformance]" => | scheduling::two_nodes,
    "[sig-cli] Kubectl client Guestbook application should create and stop a working application [Conformance]" => | guestbook::works,
    "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions [Conformance]" => | kubectl::api_versions,
    "[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info [Conformance]" => | kubectl::cluster_info,
    "[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods [Conformance]" => | kubectl::describe,
    "[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments [Conformance]" => | kubectl::diff,
    "[sig-cli] Kubectl client Kubectl expose should create services for rc [Conformance]" => | kubectl::expose,
    "[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]" => | kubectl::label,
    "[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc [Conformance]" => | kubectl::patch,
    "[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image [Conformance]" => | kubectl::replace,
    "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never [Conformance]" => | kubectl::run_pod,
    "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods [Conformance]" => | kubectl::dry_run,
    "[sig-cli] Kubectl client Kubectl version should check is all data is printed [Conformance]" => | kubectl::version,
    "[sig-cli] Kubectl client Proxy server should support --unix-socket=/path [Conformance]" => | proxy::unix_socket,
    "[sig-cli] Kubectl client Proxy server should support proxy with --port 0 [Conformance]" => | proxy::any_port,
    "[sig-cli] Kubectl client Update Demo should create and stop a replication controller [Conformance]" => | kubectl::demo_stops,
    "[sig-cli] Kubectl client Update Demo should scale a replication controller [Conformance]" => | kubectl::demo_scales,
    "[sig-cli] Kubectl logs logs should be able to retrieve and filter logs [Conformance]" => | kubectl::logs,
    "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]" => | limits::defaults,
    "[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection [Conformance]" => | limits::collection,
    "[sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run [Conformance]" => | scheduling::limits,
    "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching [Conformance]" => | scheduling::selected,
    "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching [Conformance]" => | scheduling::not_selected,
    "[sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP [Conformance]" => | scheduling::port_conflict,
    "[sig-scheduling] SchedulerPreemption [Serial] PreemptionExecutionPath runs ReplicaSets to verify preemption running path [Conformance]" => | preemption::execution_path,
    "[sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods [Conformance]" => | preemption::classes,
    "[sig-scheduling] SchedulerPreemption [Serial] validates basic preemption works [Conformance]" => | preemption::basic,
    "[sig-scheduling] SchedulerPreemption [Serial] validates lower priority pod preemption by critical pod [Conformance]" => | preemption::critical,
    "[sig-scheduling] SchedulerPreemption [Serial] validates pod disruption condition is added to the preempted pod [Conformance]" => | preemption::condition_added,
};

/// What is not shown, and why.
const NOT_YET: &[(&str, &str)] = &[];

fn main() -> anyhow::Result<()> {
    conformance::socat::prepare()?;
    conformance::run(CASES, NOT_YET)
}
