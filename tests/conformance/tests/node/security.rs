//! As whom containers run, and what they may.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, container, pod, with_container, with_spec};
use serde_json::{Value, json};

/// What the script prints in a container with such a `securityContext`; it must succeed.
async fn says(bed: &Bed, script: &str, context: Value) -> Result<String> {
    let pod = with_container(pod("p", script), json!({"securityContext": context}));
    let (phase, output) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded", "{phase}: {output}");
    Ok(output)
}

pub(crate) async fn user(bed: Bed) -> Result<()> {
    let output = says(&bed, "id -u", json!({"runAsUser": 65534})).await?;
    ensure!(output == "65534\n", "{output}");
    Ok(())
}

const USER_AND_GROUP: &str = "uid=1001 gid=2002 groups=2002\n";

pub(crate) async fn user_and_group(bed: Bed) -> Result<()> {
    let output = says(&bed, "id", json!({"runAsUser": 1001, "runAsGroup": 2002})).await?;
    ensure!(output == USER_AND_GROUP, "{output}");
    Ok(())
}

pub(crate) async fn user_and_group_of_pod(bed: Bed) -> Result<()> {
    let context = json!({"securityContext": {"runAsUser": 1001, "runAsGroup": 2002}});
    let (phase, output) = bed.ends(with_spec(pod("p", "id"), context)).await?;
    ensure!(phase == "Succeeded" && output == USER_AND_GROUP, "{phase}: {output}");
    Ok(())
}

pub(crate) async fn unprivileged(bed: Bed) -> Result<()> {
    let script = "ip link add dummy0 type dummy 2>&1 || true";
    let output = says(&bed, script, json!({"privileged": false})).await?;
    ensure!(output.contains("Operation not permitted"), "{output}");
    Ok(())
}

pub(crate) async fn writable_root(bed: Bed) -> Result<()> {
    says(&bed, "touch /file && rm /file", json!({"readOnlyRootFilesystem": false})).await.map(drop)
}

/// `su` of a set-uid busybox says that it has not become root.
pub(crate) async fn no_escalation(bed: Bed) -> Result<()> {
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let mut copies = container("copies", "cp /bin/busybox /v/su && chmod 4755 /v/su");
    copies["volumeMounts"] = mount["volumeMounts"].clone();
    let secured = json!({"securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": false}});
    let script = "id -u; grep NoNewPrivs /proc/self/status; /v/su -c true nobody 2>&1 || true";
    let pod = with_container(with_container(pod("p", script), mount), secured);
    let volumes = json!({"initContainers": [copies], "volumes": [{"name": "v", "emptyDir": {}}]});
    let (phase, output) = bed.ends(with_spec(pod, volumes)).await?;
    let all = ["1000\n", "NoNewPrivs:\t1", "must be suid"].iter().all(|part| output.contains(part));
    ensure!(phase == "Succeeded" && all, "{phase}: {output}");
    Ok(())
}

fn with_sysctls(sysctls: Value) -> Value {
    let script = "cat /proc/sys/kernel/shm_rmid_forced";
    with_spec(pod("p", script), json!({"securityContext": {"sysctls": sysctls}}))
}

pub(crate) async fn sysctl(bed: Bed) -> Result<()> {
    let sysctls = json!([{"name": "kernel.shm_rmid_forced", "value": "1"}]);
    let (phase, output) = bed.ends(with_sysctls(sysctls)).await?;
    ensure!(phase == "Succeeded" && output == "1\n", "{phase}: {output}");
    Ok(())
}

/// One is well-formed, two are not: nothing is created.
pub(crate) async fn bad_sysctls(bed: Bed) -> Result<()> {
    let named = |name: &str| json!({"name": name, "value": "bar"});
    let sysctls = json!([named("foo-"), named("kernel.shmmax"), named("safe-and-unsafe"), named("bar..")]);
    let error = bed.try_create("pods", with_sysctls(sysctls)).await.err().context("it was not refused")?;
    let said = error.to_string();
    let named =
        said.contains("\"foo-\"") && said.contains("\"bar..\"") && !said.contains("\"kernel.shmmax\"");
    ensure!(error.code() == Some(422) && named, "{said}");
    Ok(())
}
