//! The texts about pods and what runs in them.

mod containers;
mod environment;
mod hooks;
mod init;
mod kubelet;
mod objects;
mod pods;
mod probes;
mod resize;
mod security;
mod subpath;
mod taints;
mod websockets;

use conformance::{Case, cases};
use serde_json::json;

const CASES: &[Case] = cases! {
    "[sig-node] Probing container should have monotonically increasing restart count [NodeConformance] [Conformance]" => | probes::http_restarts_often,
    "[sig-node] Containers should be able to override the image's default arguments (container cmd) [NodeConformance] [Conformance]" => | |bed| containers::told(bed, json!({"args": ["echo", "other", "words"]})),
    "[sig-node] Containers should be able to override the image's default command (container entrypoint) [NodeConformance] [Conformance]" => | |bed| containers::told(bed, json!({"command": ["echo", "other", "words"]})),
    "[sig-node] Containers should be able to override the image's default command and arguments [NodeConformance] [Conformance]" => | |bed| containers::told(bed, json!({"command": ["echo"], "args": ["other", "words"]})),
    "[sig-node] Containers should use the image defaults if command and args are blank [NodeConformance] [Conformance]" => | containers::defaults,
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]" => | |bed| containers::message(bed, "echo DONE", json!({}), ""),
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]" => | |bed| containers::message(bed, "printf OK > /dev/termination-log; echo DONE", json!({}), "OK"),
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]" => | |bed| containers::message(bed, "echo DONE; exit 1", json!({}), "DONE"),
    "[sig-node] Container Runtime blackbox test on terminated container should report termination message if TerminationMessagePath is set as non-root user and at a non-default path [NodeConformance] [Conformance]" => | |bed| containers::message(
        bed,
        "printf DONE > /dev/own-log",
        json!({"terminationMessagePath": "/dev/own-log", "securityContext": {"runAsUser": 1000}}),
        "DONE",
    ),
    "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status [NodeConformance] [Conformance]" => | containers::restarts,
    "[sig-node] ConfigMap should be consumable via environment variable [NodeConformance] [Conformance]" => | |bed| environment::key(bed, "configmaps", "configMapKeyRef"),
    "[sig-node] ConfigMap should be consumable via the environment [NodeConformance] [Conformance]" => | |bed| environment::all_keys(bed, "configmaps", "configMapRef"),
    "[sig-node] ConfigMap should be consumable as environment variable names with various prefixes [Conformance]" => | |bed| environment::prefixes(bed, "configmaps", "configMapRef"),
    "[sig-node] Secrets should be consumable from pods in env vars [NodeConformance] [Conformance]" => | |bed| environment::key(bed, "secrets", "secretKeyRef"),
    "[sig-node] Secrets should be consumable via the environment [NodeConformance] [Conformance]" => | |bed| environment::all_keys(bed, "secrets", "secretRef"),
    "[sig-node] Secrets should be consumable as environment variable names variable names with various prefixes [Conformance]" => | |bed| environment::prefixes(bed, "secrets", "secretRef"),
    "[sig-node] ConfigMap should fail to create ConfigMap with empty key [Conformance]" => | |bed| objects::empty_key(bed, "configmaps"),
    "[sig-node] Secrets should fail to create secret due to empty secret key [Conformance]" => | |bed| objects::empty_key(bed, "secrets"),
    "[sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]" => | |bed| objects::lifecycle(
        bed, "configmaps", json!({"metadata": {}, "data": {"key": "value"}}), json!({"data": {"key": "patched"}}),
    ),
    "[sig-node] Secrets should patch a secret [Conformance]" => | |bed| objects::lifecycle(
        bed, "secrets", json!({"metadata": {}, "data": {"key": "dmFsdWU="}}), json!({"data": {"key": "dmFsdWUx"}}),
    ),
    "[sig-node] ConfigMap should update ConfigMap successfully [NodeConformance] [Conformance]" => | objects::config_map_updated,
    "[sig-node] PodTemplates should run the lifecycle of PodTemplates [Conformance]" => | |bed| objects::lifecycle(
        bed, "podtemplates", objects::template(), json!({"template": {"metadata": {"labels": {"pod": "patched"}}}}),
    ),
    "[sig-node] PodTemplates should delete a collection of pod templates [Conformance]" => | |bed| objects::collection(bed, "podtemplates", objects::template()),
    "[sig-node] PodTemplates should replace a pod template [Conformance]" => | objects::template_replaced,
    "[sig-node] Lease lease API should be available [Conformance]" => | objects::lease,
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly [NodeConformance] [Conformance]" => | |bed| hooks::post_start(bed, hooks::EXEC),
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [NodeConformance] [Conformance]" => | |bed| hooks::post_start(bed, hooks::HTTP),
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly [NodeConformance] [Conformance]" => | |bed| hooks::pre_stop(bed, hooks::EXEC),
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly [NodeConformance] [Conformance]" => | |bed| hooks::pre_stop(bed, hooks::HTTP),
    "[sig-node] PreStop should call prestop when killing a pod [Conformance]" => | hooks::pre_stop_writes,
    "[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars [NodeConformance] [Conformance]" => | environment::resources,
    "[sig-node] Downward API should provide default limits.cpu/memory from node allocatable [NodeConformance] [Conformance]" => | environment::allocatable,
    "[sig-node] Downward API should provide host IP as an env var [NodeConformance] [Conformance]" => | |bed| environment::fields(bed, &[("status.hostIP", "/status/hostIP")]),
    "[sig-node] Downward API should provide hostIPs as an env var [NodeConformance] [Conformance]" => | |bed| environment::fields(bed, &[("status.hostIPs", "/status/hostIPs/0/ip")]),
    "[sig-node] Downward API should provide pod UID as env vars [NodeConformance] [Conformance]" => | |bed| environment::fields(bed, &[("metadata.uid", "/metadata/uid")]),
    "[sig-node] Downward API should provide pod name, namespace and IP address as env vars [NodeConformance] [Conformance]" => | |bed| environment::fields(
        bed,
        &[
            ("metadata.name", "/metadata/name"),
            ("metadata.namespace", "/metadata/namespace"),
            ("status.podIP", "/status/podIP"),
        ],
    ),
    "[sig-node] Ephemeral Containers [NodeConformance] should update the ephemeral containers in an existing pod [Conformance]" => | init::two_ephemeral,
    "[sig-node] Ephemeral Containers [NodeConformance] will start an ephemeral container in an existing pod [Conformance]" => | init::ephemeral,
    "[sig-node] ImageVolume should succeed with pod and pull policy of Always [LinuxOnly] [MinimumKubeletVersion:1.35] [Conformance]" => | init::image_volume,
    "[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartAlways pod [Conformance]" => | init::always,
    "[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartNever pod [Conformance]" => | init::never,
    "[sig-node] InitContainer [NodeConformance] should not start app containers and fail the pod if init containers fail on a RestartNever pod [Conformance]" => | init::fails_never,
    "[sig-node] InitContainer [NodeConformance] should not start app containers if init containers fail on a RestartAlways pod [Conformance]" => | init::fails_always,
    "[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [NodeConformance] [Conformance]" => | kubelet::logs,
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete [NodeConformance] [Conformance]" => | kubelet::failing_deleted,
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason [NodeConformance] [Conformance]" => | kubelet::failing_reason,
    "[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly] [NodeConformance] [Conformance]" => | kubelet::read_only_root,
    "[sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts [NodeConformance] [Conformance]" => | kubelet::host_aliases,
    "[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file [NodeConformance] [Conformance]" => | kubelet::hosts_file,
    "[sig-node] Probing container should *not* be restarted with a /healthz http liveness probe [NodeConformance] [Conformance]" => | probes::http_stays,
    "[sig-node] Probing container should *not* be restarted with a GRPC liveness probe [NodeConformance] [Conformance]" => | probes::grpc_stays,
    r#"[sig-node] Probing container should *not* be restarted with a exec "cat /tmp/health" liveness probe [NodeConformance] [Conformance]"# => | probes::exec_stays,
    "[sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe [NodeConformance] [Conformance]" => | probes::tcp_stays,
    "[sig-node] Probing container should be restarted with a /healthz http liveness probe [NodeConformance] [Conformance]" => | probes::http_restarts,
    "[sig-node] Probing container should be restarted with a GRPC liveness probe [NodeConformance] [Conformance]" => | probes::grpc_restarts,
    r#"[sig-node] Probing container should be restarted with a exec "cat /tmp/health" liveness probe [NodeConformance] [Conformance]"# => | probes::exec_restarts,
    "[sig-node] Probing container with readiness probe should not be ready before initial delay and never restart [NodeConformance] [Conformance]" => | probes::ready_after_delay,
    "[sig-node] Probing container with readiness probe that fails should never be ready and never restart [NodeConformance] [Conformance]" => | probes::never_ready,
    "[sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass [NodeConformance] [Conformance]" => | objects::class_deleted,
    "[sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [NodeConformance] [Conformance]" => | objects::class_missing,
    "[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead [NodeConformance] [Conformance]" => | |bed| objects::class_scheduled(bed, json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}})),
    "[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead [NodeConformance] [Conformance]" => | |bed| objects::class_scheduled(bed, json!({})),
    "[sig-node] RuntimeClass should support RuntimeClasses API operations [Conformance]" => | objects::runtime_class,
    "[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 [LinuxOnly] [NodeConformance] [Conformance]" => | security::user,
    "[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false [LinuxOnly] [NodeConformance] [Conformance]" => | security::unprivileged,
    "[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false [NodeConformance] [Conformance]" => | security::writable_root,
    "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false [LinuxOnly] [NodeConformance] [Conformance]" => | security::no_escalation,
    "[sig-node] Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]" => | security::user_and_group,
    "[sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup [LinuxOnly] [Conformance]" => | security::user_and_group_of_pod,
    "[sig-node] Sysctls [LinuxOnly] [NodeConformance] should reject invalid sysctls [Conformance]" => | security::bad_sysctls,
    "[sig-node] Sysctls [LinuxOnly] [NodeConformance] should support sysctls [Environment:NotInUserNS] [Conformance]" => | security::sysctl,
    "[sig-node] Variable Expansion should allow composing env vars into new env vars [NodeConformance] [Conformance]" => | environment::composed,
    "[sig-node] Variable Expansion should allow substituting values in a container's args [NodeConformance] [Conformance]" => | |bed| environment::substituted(bed, json!({"command": ["echo"], "args": ["$(TEST_VAR)"]})),
    "[sig-node] Variable Expansion should allow substituting values in a container's command [NodeConformance] [Conformance]" => | |bed| environment::substituted(bed, json!({"command": ["echo", "$(TEST_VAR)"]})),
    "[sig-node] Variable Expansion should allow substituting values in a volume subpath [Conformance]" => | subpath::substituted,
    "[sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path [Conformance]" => | |bed| subpath::refused(bed, "$(NOTE)", "/tmp/absolute"),
    "[sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks [Conformance]" => | |bed| subpath::refused(bed, "$(NOTE)", ".."),
    "[sig-node] Variable Expansion should succeed in writing subpaths in container [Conformance]" => | subpath::written,
    "[sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container [Slow] [Conformance]" => | subpath::mended,
    "[sig-node] Pods should contain environment variables for services [NodeConformance] [Conformance]" => | environment::services,
    "[sig-node] Pods should allow activeDeadlineSeconds to be updated [NodeConformance] [Conformance]" => | pods::deadline_updated,
    "[sig-node] Pods should be submitted and removed [NodeConformance] [Conformance]" => | pods::submitted_and_removed,
    "[sig-node] Pods should be updated [NodeConformance] [Conformance]" => | pods::updated,
    "[sig-node] Pods should delete a collection of pods [Conformance]" => | |bed| objects::collection(bed, "pods", conformance::pod("p", conformance::FOREVER)),
    "[sig-node] Pods should get a host IP [NodeConformance] [Conformance]" => | pods::host_ip,
    "[sig-node] Pods should patch a pod status [Conformance]" => | pods::status_patched,
    "[sig-node] Pods should run through the lifecycle of Pods and PodStatus [Conformance]" => | pods::lifecycle,
    "[sig-node] Pods should support remote command execution over websockets [NodeConformance] [Conformance]" => | websockets::exec,
    "[sig-node] Pods should support retrieving logs from the container over websockets [NodeConformance] [Conformance]" => | websockets::logs,
    "[sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu [Conformance]" => | pods::qos_class,
    "[sig-node] Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete [Conformance]" => | pods::generation_of_deletion,
    "[sig-node] Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and observedGeneration eventually converge [MinimumKubeletVersion:1.34] [Conformance]" => | pods::generation_converges,
    "[sig-node] Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per update [MinimumKubeletVersion:1.34] [Conformance]" => | pods::generation_grows,
    "[sig-node] Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed (including adding limits and requests) [MinimumKubeletVersion:1.34] [Conformance]" => | |bed| resize::patched(
        bed,
        &[
            (("20m 32Mi", ""), ("20m 32Mi", "40m 64Mi")),
            (("", ""), ("10m 16Mi", "")),
            (("10m", ""), ("15m", "")),
            (("10m 16Mi", "20m 32Mi"), ("10m 16Mi", "30m 48Mi")),
            (("20m 16Mi", "40m 32Mi"), ("10m 16Mi", "20m 32Mi")),
            (("- 16Mi", ""), ("- 24Mi", "- 32Mi")),
        ],
    ),
    "[sig-node] Pod InPlace Resize Container burstable pods - extended resize with equivalents [MinimumKubeletVersion:1.34] [Conformance]" => | |bed| resize::patched(bed, &[(("2m 16Mi", "10m 32Mi"), ("1m 16Mi", "5m 32Mi"))]),
    "[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, c2, decrease cpu & mem on c3 - net increase [MinimumKubeletVersion:1.34] [Conformance]" => | |bed| resize::patched(
        bed,
        &[
            (("20m 16Mi", "20m 16Mi"), ("30m 24Mi", "30m 24Mi")),
            (("20m 16Mi", "20m 16Mi"), ("30m 24Mi", "30m 24Mi")),
            (("20m 32Mi", "20m 32Mi"), ("15m 24Mi", "15m 24Mi")),
        ],
    ),
    "[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, decrease cpu & mem on c2, c3 - net decrease [MinimumKubeletVersion:1.34] [Conformance]" => | |bed| resize::patched(
        bed,
        &[
            (("20m 16Mi", "20m 16Mi"), ("25m 20Mi", "25m 20Mi")),
            (("30m 32Mi", "30m 32Mi"), ("20m 24Mi", "20m 24Mi")),
            (("30m 32Mi", "30m 32Mi"), ("20m 24Mi", "20m 24Mi")),
        ],
    ),
    "[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase: CPU (c1,c3), memory (c2, c3) ; decrease: CPU (c2) [MinimumKubeletVersion:1.34] [Conformance]" => | |bed| resize::patched(
        bed,
        &[
            (("20m 16Mi", "20m 16Mi"), ("30m 16Mi", "30m 16Mi")),
            (("20m 16Mi", "20m 16Mi"), ("15m 24Mi", "15m 24Mi")),
            (("20m 16Mi", "20m 16Mi"), ("30m 24Mi", "30m 24Mi")),
        ],
    ),
    "[sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34] [Conformance]" => | resize::replaced,
    "[sig-node] Node Lifecycle should run through the lifecycle of a node [Conformance]" => | objects::node,
    "[sig-node] NoExecuteTaintManager Multiple Pods [Serial] evicts pods with minTolerationSeconds [Disruptive] [Conformance]" => alone | taints::evicted_in_time,
    "[sig-node] NoExecuteTaintManager Single Pod [Serial] removing taint cancels eviction [Disruptive] [Conformance]" => alone | taints::eviction_cancelled,
};

/// What is not shown, and why.
const NOT_YET: &[(&str, &str)] = &[];

fn main() -> anyhow::Result<()> {
    conformance::run(CASES, NOT_YET)
}
