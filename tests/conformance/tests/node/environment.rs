//! Environment variables, whatever they come from.

use anyhow::{Result, ensure};
use conformance::{Bed, pod, with, with_container};
use proto_kube::object::text;
use serde_json::{Value, json};

/// Creates the pod and gives the lines that `env` prints in it.
async fn env(bed: &Bed, container: Value) -> Result<Vec<String>> {
    let pod = with_container(with_container(pod("p", ""), json!({"command": ["env"]})), container);
    let (phase, output) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded", "{phase}: {output}");
    Ok(output.lines().map(str::to_owned).collect())
}

fn expect(lines: &[String], wanted: &str) -> Result<()> {
    ensure!(lines.iter().any(|line| line == wanted), "no {wanted:?} in {lines:#?}");
    Ok(())
}

/// A ConfigMap or a Secret `source` with two keys.
async fn source(bed: &Bed, plural: &str) -> Result<()> {
    let field = if plural == "secrets" { "stringData" } else { "data" };
    let object = json!({"metadata": {"name": "source"}, field: {"one": "value-1", "two": "value-2"}});
    bed.create(plural, object).await.map(drop)
}

/// One key by name. `of` is `configMapKeyRef` or `secretKeyRef`.
pub(crate) async fn key(bed: Bed, plural: &str, of: &str) -> Result<()> {
    source(&bed, plural).await?;
    let value = json!({(of): {"name": "source", "key": "one"}});
    let lines = env(&bed, json!({"env": [{"name": "ONE", "valueFrom": value}]})).await?;
    expect(&lines, "ONE=value-1")
}

/// All keys, with and without a prefix. `of` is `configMapRef` or `secretRef`.
pub(crate) async fn all_keys(bed: Bed, plural: &str, of: &str) -> Result<()> {
    source(&bed, plural).await?;
    let from = |prefix: &str| json!({"prefix": prefix, (of): {"name": "source"}});
    let lines = env(&bed, json!({"envFrom": [from(""), from("p_")]})).await?;
    for wanted in ["one=value-1", "two=value-2", "p_one=value-1", "p_two=value-2"] {
        expect(&lines, wanted)?;
    }
    Ok(())
}

/// Prefixes of any printable characters but `=`.
pub(crate) async fn prefixes(bed: Bed, plural: &str, of: &str) -> Result<()> {
    const PREFIXES: [&str; 6] = ["1-", "$_-", "#@!", "a.b/c", "%^&*()", "~ {}[]|\\:;\"'<>,?`"];
    source(&bed, plural).await?;
    let from: Vec<Value> = PREFIXES.iter().map(|p| json!({"prefix": p, (of): {"name": "source"}})).collect();
    let lines = env(&bed, json!({"envFrom": from})).await?;
    PREFIXES.iter().try_for_each(|prefix| expect(&lines, &format!("{prefix}one=value-1")))
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn resource(name: &str, resource: &str) -> Value {
    json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource}}})
}

/// The fields of a pod are what its status says, and its metadata.
pub(crate) async fn fields(bed: Bed, fields: &[(&str, &str)]) -> Result<()> {
    let wanted: Vec<Value> = fields.iter().map(|(path, _)| field(&path.replace('.', "_"), path)).collect();
    let lines = env(&bed, json!({"env": wanted})).await?;
    let pod = bed.get("pods", "p").await?;
    for (path, pointer) in fields {
        let value = pod.pointer(pointer).and_then(Value::as_str).unwrap_or("nothing");
        expect(&lines, &format!("{}={value}", path.replace('.', "_")))?;
    }
    Ok(())
}

/// Requests and limits as they stand in the pod.
pub(crate) async fn resources(bed: Bed) -> Result<()> {
    let names = ["requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let env_of: Vec<Value> = names.iter().map(|name| resource(&name.replace('.', "_"), name)).collect();
    let amounts = json!({
        "requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"},
    });
    let lines = env(&bed, json!({"env": env_of, "resources": amounts})).await?;
    for wanted in ["requests_cpu=1", "requests_memory=33554432", "limits_cpu=2", "limits_memory=67108864"] {
        expect(&lines, wanted)?;
    }
    Ok(())
}

/// Limits that a pod does not set are what its node has to give.
pub(crate) async fn allocatable(bed: Bed) -> Result<()> {
    let env_of = [resource("CPU", "limits.cpu"), resource("MEMORY", "limits.memory")];
    let lines = env(&bed, json!({"env": env_of})).await?;
    let pod = bed.get("pods", "p").await?;
    let node = bed.get("nodes", text(&pod, &["spec", "nodeName"])).await?;
    let (cpu, memory) = conformance::allocatable(&node);
    expect(&lines, &format!("CPU={cpu}"))?;
    expect(&lines, &format!("MEMORY={memory}"))
}

/// Variables made of variables; `$$` is a dollar, and what is not known stays as it is.
pub(crate) async fn composed(bed: Bed) -> Result<()> {
    let lines = env(
        &bed,
        json!({"env": [
            {"name": "ONE", "value": "one"}, {"name": "TWO", "value": "two"},
            {"name": "BOTH", "value": "$(ONE);;$(TWO)"}, {"name": "ODD", "value": "$$(ONE) $(NONE)"},
        ]}),
    )
    .await?;
    expect(&lines, "BOTH=one;;two")?;
    expect(&lines, "ODD=$(ONE) $(NONE)")
}

/// Variables in `command` or in `args`.
pub(crate) async fn substituted(bed: Bed, words: Value) -> Result<()> {
    let more = json!({"env": [{"name": "TEST_VAR", "value": "test-value"}]});
    let pod = with_container(with_container(pod("p", ""), more), words);
    let (phase, output) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded" && output == "test-value\n", "{phase}: {output}");
    Ok(())
}

/// What a pod is told of the services of its namespace.
pub(crate) async fn services(bed: Bed) -> Result<()> {
    let spec = json!({"ports": [{"port": 8765, "targetPort": 8080}], "selector": {"name": "server"}});
    let server =
        with(pod("server", conformance::FOREVER), "/metadata", json!({"labels": {"name": "server"}}));
    bed.ready(server).await?;
    let service = bed.create("services", json!({"metadata": {"name": "fooservice"}, "spec": spec})).await?;
    let ip = text(&service, &["spec", "clusterIP"]);
    // The agent learns of services by a watch: a pod that it starts before is not told, and another one will be.
    bed.eventually("the variables of the service", || async {
        let lines = env(&bed, json!({})).await;
        bed.delete("pods", "p").await?;
        bed.gone("pods", "p").await?;
        let lines = lines?;
        for wanted in [
            format!("FOOSERVICE_SERVICE_HOST={ip}"),
            "FOOSERVICE_SERVICE_PORT=8765".to_owned(),
            format!("FOOSERVICE_PORT=tcp://{ip}:8765"),
            "FOOSERVICE_PORT_8765_TCP_PORT=8765".to_owned(),
            "FOOSERVICE_PORT_8765_TCP_PROTO=tcp".to_owned(),
            format!("FOOSERVICE_PORT_8765_TCP=tcp://{ip}:8765"),
            format!("FOOSERVICE_PORT_8765_TCP_ADDR={ip}"),
        ] {
            expect(&lines, &wanted)?;
        }
        Ok(())
    })
    .await
}
