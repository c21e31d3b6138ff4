//! Volumes of the files of ConfigMaps and Secrets, alone and projected.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, FOREVER, pod, with, with_container, with_spec};
use serde_json::{Value, json};

/// What the files of a volume come from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Source {
    ConfigMap,
    Secret,
    ProjectedConfigMap,
    ProjectedSecret,
}

use Source::{ConfigMap, ProjectedConfigMap, ProjectedSecret, Secret};

impl Source {
    fn plural(self) -> &'static str {
        if matches!(self, ConfigMap | ProjectedConfigMap) { "configmaps" } else { "secrets" }
    }

    /// An object with three keys.
    pub(crate) async fn create(self, bed: &Bed, name: &str) -> Result<()> {
        let field = if self.plural() == "secrets" { "stringData" } else { "data" };
        let data = json!({"data-1": "value-1\n", "data-2": "value-2\n", "data-3": "value-3\n"});
        bed.create(self.plural(), json!({"metadata": {"name": name}, field: data})).await.map(drop)
    }

    /// Gives an object other values: those of `data-1`.
    async fn change(self, bed: &Bed, name: &str, value: &str) -> Result<()> {
        let field = if self.plural() == "secrets" { "stringData" } else { "data" };
        bed.patch(self.plural(), name, json!({field: {"data-1": value}})).await.map(drop)
    }

    /// A volume of an object with more of its source (`items`, `optional`) and a `defaultMode`.
    pub(crate) fn volume(self, volume: &str, object: &str, source: Value, mode: Option<u32>) -> Value {
        let with_mode = |source: Value| match mode {
            Some(mode) => with(source, "", json!({"defaultMode": mode})),
            None => source,
        };
        let named = |key: &str| with(json!({key: object}), "", source.clone());
        let source = match self {
            ConfigMap => json!({"configMap": with_mode(named("name"))}),
            Secret => json!({"secret": with_mode(named("secretName"))}),
            ProjectedConfigMap => {
                json!({"projected": with_mode(json!({"sources": [{"configMap": named("name")}]}))})
            }
            ProjectedSecret => {
                json!({"projected": with_mode(json!({"sources": [{"secret": named("name")}]}))})
            }
        };
        with(json!({"name": volume}), "", source)
    }
}

/// A pod that mounts each of the volumes at `/` and its name.
pub(crate) fn mounting(script: &str, volumes: &[Value]) -> Value {
    let mount = |v: &Value| json!({"name": v["name"], "mountPath": format!("/{}", v["name"].as_str().unwrap_or_default())});
    let mounts: Vec<Value> = volumes.iter().map(mount).collect();
    with_spec(with_container(pod("p", script), json!({"volumeMounts": mounts})), json!({"volumes": volumes}))
}

/// One way to mount an object.
pub(crate) struct Mount {
    mode: Option<u32>,
    /// `data-2` alone, as `path/to/data-2`, with a mode of its own if there is one.
    mapped: bool,
    item_mode: Option<u32>,
    /// User and `fsGroup`.
    user: (u32, Option<u32>),
}

pub(crate) const PLAIN: Mount = Mount { mode: None, mapped: false, item_mode: None, user: (0, None) };
pub(crate) const NON_ROOT: Mount = Mount { user: (1000, None), ..PLAIN };
pub(crate) const MODE: Mount = Mount { mode: Some(0o400), ..PLAIN };
pub(crate) const MODE_AND_GROUP: Mount = Mount { mode: Some(0o440), user: (1000, Some(1001)), ..PLAIN };
pub(crate) const MAPPED: Mount = Mount { mapped: true, ..PLAIN };
pub(crate) const MAPPED_NON_ROOT: Mount = Mount { user: (1000, None), ..MAPPED };
pub(crate) const MAPPED_MODE: Mount = Mount { item_mode: Some(0o400), ..MAPPED };

/// The pod reads the file, which has the mode and the group that were asked for, and sees no others than it should.
pub(crate) async fn consumed(bed: Bed, source: Source, mount: Mount) -> Result<()> {
    source.create(&bed, "o").await?;
    let item = json!({"key": "data-2", "path": "path/to/data-2", "mode": mount.item_mode});
    let (items, file, content, files) = match mount.mapped {
        true => (json!({"items": [item]}), "path/to/data-2", "value-2", 1),
        false => (json!({}), "data-1", "value-1", 3),
    };
    let volume = source.volume("v", "o", items, mount.mode);
    let script = format!("cat /v/{file}; stat -L -c '%a %g' /v/{file}; find -L /v/* -type f | wc -l");
    let (user, group) = mount.user;
    let context = json!({"securityContext": {"runAsUser": user, "fsGroup": group}});
    let (phase, output) = bed.ends(with_spec(mounting(&script, &[volume]), context)).await?;
    let mode = mount.item_mode.or(mount.mode).unwrap_or(0o644);
    let wanted = format!("{content}\n{mode:o} {}\n{files}\n", group.unwrap_or(0));
    ensure!(phase == "Succeeded" && output == wanted, "{phase}: {output} is not {wanted}");
    Ok(())
}

/// One object in two volumes of a pod.
pub(crate) async fn twice(bed: Bed, source: Source) -> Result<()> {
    source.create(&bed, "o").await?;
    let volumes = ["v", "w"].map(|name| source.volume(name, "o", json!({}), None));
    let (phase, output) = bed.ends(mounting("cat /v/data-1 /w/data-1", &volumes)).await?;
    ensure!(phase == "Succeeded" && output == "value-1\nvalue-1\n", "{phase}: {output}");
    Ok(())
}

/// Waits until a script prints something in the pod.
pub(crate) async fn prints(bed: &Bed, script: &str, wanted: &str) -> Result<()> {
    bed.eventually(wanted, || async {
        let seen = bed.sh("p", script).await?;
        ensure!(seen == wanted, "{script}: {seen:?}");
        Ok(())
    })
    .await
}

/// What changes in the object changes in the volume.
pub(crate) async fn updated(bed: Bed, source: Source) -> Result<()> {
    source.create(&bed, "o").await?;
    bed.ready(mounting(FOREVER, &[source.volume("v", "o", json!({}), None)])).await?;
    prints(&bed, "cat /v/data-1", "value-1").await?;
    source.change(&bed, "o", "changed").await?;
    prints(&bed, "cat /v/data-1", "changed").await
}

/// Objects that are created, updated and deleted while a pod runs, which wants them if they are there.
pub(crate) async fn optional(bed: Bed, source: Source) -> Result<()> {
    source.create(&bed, "updated").await?;
    source.create(&bed, "deleted").await?;
    let volumes = ["created", "updated", "deleted"]
        .map(|name| source.volume(name, name, json!({"optional": true}), None));
    bed.ready(mounting(FOREVER, &volumes)).await?;
    const SCRIPT: &str = "for v in created updated deleted; do cat /$v/data-1 2>/dev/null || echo none; done";
    prints(&bed, SCRIPT, "none\nvalue-1\nvalue-1").await?;
    source.create(&bed, "created").await?;
    source.change(&bed, "updated", "changed\n").await?;
    bed.delete(source.plural(), "deleted").await?;
    prints(&bed, SCRIPT, "value-1\nchanged\nnone").await
}

/// Text and bytes of a ConfigMap.
pub(crate) async fn binary(bed: Bed) -> Result<()> {
    let data = json!({"data": {"text": "value-1\n"}, "binaryData": {"bytes": "3sr+utAO/wA="}});
    bed.create("configmaps", with(json!({"metadata": {"name": "o"}}), "", data)).await?;
    let script = "cat /v/text; od -An -tx1 /v/bytes";
    let (phase, output) = bed.ends(mounting(script, &[ConfigMap.volume("v", "o", json!({}), None)])).await?;
    let words: Vec<&str> = output.split_whitespace().collect();
    ensure!(
        phase == "Succeeded" && words.join(" ") == "value-1 de ca fe ba d0 0e ff 00",
        "{phase}: {output}"
    );
    Ok(())
}

/// An immutable object keeps its data and its immutability, and nothing else.
pub(crate) async fn immutable(bed: Bed, source: Source) -> Result<()> {
    let plural = source.plural();
    source.create(&bed, "o").await?;
    source.change(&bed, "o", "changed").await?;
    bed.patch(plural, "o", json!({"immutable": true})).await?;
    let refused = |done: Result<()>, what: &str| {
        let error = done.err().with_context(|| format!("{what} was not refused"))?;
        ensure!(format!("{error:#}").contains("immutable"), "{error:#}");
        Ok(())
    };
    refused(source.change(&bed, "o", "again").await, "other data")?;
    let unset = async |patch: Value| bed.patch(plural, "o", patch).await.map(drop);
    refused(unset(json!({"immutable": false})).await, "immutable: false")?;
    refused(unset(json!({"immutable": null})).await, "immutable: null")?;
    let object = bed.patch(plural, "o", json!({"metadata": {"labels": {"new": "label"}}})).await?;
    ensure!(object["metadata"]["labels"]["new"] == "label" && object["immutable"] == true, "{object:#}");
    bed.delete(plural, "o").await?;
    bed.gone(plural, "o").await
}

/// A Secret of the same name in another namespace is another Secret.
pub(crate) async fn other_namespace(bed: Bed) -> Result<()> {
    let other = format!("{}-other", bed.namespace);
    bed.create("namespaces", json!({"metadata": {"name": other}})).await?;
    let there = Bed { namespace: other.clone(), ..bed.clone() };
    there.create("secrets", json!({"metadata": {"name": "o"}, "stringData": {"data-1": "wrong\n"}})).await?;
    consumed(bed.clone(), Secret, PLAIN).await?;
    bed.delete("namespaces", &other).await
}

/// Secret, ConfigMap and the downward API in one volume.
pub(crate) async fn combined(bed: Bed) -> Result<()> {
    ConfigMap.create(&bed, "map").await?;
    Secret.create(&bed, "secret").await?;
    let item = |key: &str, path: &str| json!([{"key": key, "path": path}]);
    let name = json!({"path": "name", "fieldRef": {"fieldPath": "metadata.name"}});
    let amount = |what: &str| json!({"path": what, "resourceFieldRef": {"containerName": "c", "resource": what, "divisor": "1m"}});
    let sources = json!([
        {"configMap": {"name": "map", "items": item("data-1", "map/data")}},
        {"secret": {"name": "secret", "items": item("data-2", "secret/data")}},
        {"downwardAPI": {"items": [name, amount("limits.cpu"), amount("requests.cpu")]}},
    ]);
    let script = "cd /v; cat map/data secret/data name; echo; cat limits.cpu; echo; cat requests.cpu";
    let pod = mounting(script, &[json!({"name": "v", "projected": {"sources": sources}})]);
    let amounts = json!({"resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "500m"}}});
    let (phase, output) = bed.ends(with_container(pod, amounts)).await?;
    ensure!(phase == "Succeeded" && output == "value-1\nvalue-2\np\n500\n10", "{phase}: {output}");
    Ok(())
}
