//! What a case has in its hands: a namespace in a running cluster, and what one does there.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use client::{Client, ClientError, Patch, Query};
use http::Method;
use lab::Cluster;
use proto_kube::object::{items, name, text};
use proto_kube::resource::{self, Resource};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long anything may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a request gave: an object, or why there is none.
pub type Found = Result<Value, ClientError>;

/// A built-in resource by its plural, or by `plural.group` where several groups have it.
///
/// # Panics
/// When there is none: the case is misspelt.
#[must_use]
pub fn of(plural: &str) -> &'static Resource {
    let (plural, group) = plural.split_once('.').map_or((plural, None), |(p, g)| (p, Some(g)));
    resource::all()
        .iter()
        .filter(|r| r.plural == plural && group.is_none_or(|g| r.group == g))
        .min_by_key(|r| (!r.group.is_empty(), r.group == "events.k8s.io", r.version != "v1"))
        .unwrap_or_else(|| panic!("no resource {plural}"))
}

/// An object as a failed case shows it: its status before its spec, and without who wrote what.
fn shown(mut object: Value) -> String {
    let status = object["status"].take();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    format!("status: {status}\n{object}\n")
}

/// The status of a condition of an object; empty where it has none of the type.
#[must_use]
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    items(object, &["status", "conditions"]).find(|c| c["type"] == kind).map_or("", |c| text(c, &["status"]))
}

/// A namespace in a running cluster. Clones are the same.
#[derive(Clone)]
pub struct Bed {
    /// The cluster's administrator.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// The cluster, for what only its machines can show.
    pub cluster: Arc<Cluster>,
}

impl Bed {
    /// Creates an object in the namespace; `apiVersion` and `kind` are added.
    pub async fn create(&self, plural: &str, object: Value) -> Result<Value> {
        let called = name(&object).to_owned();
        self.try_create(plural, object).await.with_context(|| format!("creating {plural} {called:?}"))
    }

    /// The same, for what may be refused.
    pub async fn try_create(&self, plural: &str, mut object: Value) -> Found {
        let resource = of(plural);
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind.into();
        self.client.create(resource, self.scope(resource), &object, Query::default()).await
    }

    /// An object as it is now.
    pub async fn get(&self, plural: &str, name: &str) -> Result<Value> {
        self.try_get(plural, name).await.with_context(|| format!("reading {plural} {name}"))
    }

    /// The same, for what may be missing.
    pub async fn try_get(&self, plural: &str, name: &str) -> Found {
        let resource = of(plural);
        self.client.get(resource, self.scope(resource), name).await
    }

    /// The objects that a label selector chooses; all for an empty one.
    pub async fn list(&self, plural: &str, selector: &str) -> Result<Vec<Value>> {
        let resource = of(plural);
        let query = Query::default().with("labelSelector", selector);
        let list = self.client.list(resource, self.scope(resource), query).await?;
        Ok(items(&list, &["items"]).cloned().collect())
    }

    /// Replaces an object by what `change` makes of it, again where somebody else was faster.
    pub async fn update(&self, plural: &str, name: &str, change: impl Fn(&mut Value)) -> Result<Value> {
        let resource = of(plural);
        loop {
            let mut object = self.get(plural, name).await?;
            change(&mut object);
            match self.client.update(resource, None, &object, Query::default()).await {
                Err(error) if error.code() == Some(409) => {}
                result => return result.with_context(|| format!("updating {plural} {name}")),
            }
        }
    }

    /// A JSON merge patch; `name` may be `name/status` or another subresource.
    pub async fn patch(&self, plural: &str, name: &str, patch: Value) -> Result<Value> {
        self.patch_as(plural, name, (Patch::Merge, patch)).await
    }

    /// A patch of any kind.
    pub async fn patch_as(&self, plural: &str, name: &str, (kind, patch): (Patch, Value)) -> Result<Value> {
        let resource = of(plural);
        let (name, subresource) = name.split_once('/').map_or((name, None), |(n, s)| (n, Some(s)));
        let place = (resource, self.scope(resource), name);
        let done = self.client.patch(place, subresource, (kind, &patch), Query::default()).await;
        done.with_context(|| format!("patching {plural} {name}"))
    }

    /// Asks for the end of an object.
    pub async fn delete(&self, plural: &str, name: &str) -> Result<()> {
        self.delete_with(plural, name, json!({})).await
    }

    /// The same with `DeleteOptions`.
    pub async fn delete_with(&self, plural: &str, name: &str, options: Value) -> Result<()> {
        let resource = of(plural);
        let done = self.client.delete(resource, self.scope(resource), name, &options).await;
        done.map(drop).with_context(|| format!("deleting {plural} {name}"))
    }

    /// Waits until an object is as wanted, and gives it.
    pub async fn until(
        &self,
        plural: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool + Sync,
    ) -> Result<Value> {
        let what = format!("{plural} {name}");
        let wanted = &wanted;
        let probe = move || async move {
            let object = self.get(plural, name).await?;
            if wanted(&object) { Ok(object) } else { bail!(shown(object)) }
        };
        self.eventually(&what, probe).await
    }

    /// Waits until the objects that a label selector chooses are as wanted, and gives them.
    pub async fn until_all(
        &self,
        plural: &str,
        selector: &str,
        wanted: impl Fn(&[Value]) -> bool + Sync,
    ) -> Result<Vec<Value>> {
        let wanted = &wanted;
        let probe = move || async move {
            let all = self.list(plural, selector).await?;
            if wanted(&all) { Ok(all) } else { bail!(all.into_iter().map(shown).collect::<String>()) }
        };
        self.eventually(&format!("{plural} of {selector:?}"), probe).await
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, plural: &str, name: &str) -> Result<()> {
        let probe = move || async move {
            match self.try_get(plural, name).await {
                Err(error) if error.code() == Some(404) => Ok(()),
                Ok(object) => bail!(shown(object)),
                Err(error) => Err(error.into()),
            }
        };
        self.eventually(&format!("no {plural} {name}"), probe).await
    }

    /// Tries until it succeeds; fails with what it failed with last.
    pub async fn eventually<T, F>(&self, what: &str, probe: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let begun = Instant::now();
        loop {
            match probe().await {
                Ok(found) => return Ok(found),
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(error.context(format!("{what} never came to be")));
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Creates a pod and waits until it is Ready.
    pub async fn ready(&self, pod: Value) -> Result<Value> {
        let pod = self.create("pods", pod).await?;
        self.until("pods", name(&pod), |pod| condition(pod, "Ready") == "True").await
    }

    /// Creates a pod, waits until it is over, and gives its phase and the output of its first container.
    pub async fn ends(&self, pod: Value) -> Result<(String, String)> {
        let pod = self.create("pods", pod).await?;
        let over = |pod: &Value| matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
        let pod = self.until("pods", name(&pod), over).await?;
        let container = text(&pod["spec"]["containers"][0], &["name"]).to_owned();
        let output = self.logs(name(&pod), &container).await?;
        Ok((text(&pod, &["status", "phase"]).to_owned(), output))
    }

    /// What a container of a pod has printed.
    pub async fn logs(&self, pod: &str, container: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/log?container={container}", self.namespace);
        let bytes = self.client.bytes(Method::GET, &path, None, "*/*").await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a shell script prints in the first container of a pod, by `kubectl exec`; fails when it does.
    pub async fn sh(&self, pod: &str, script: &str) -> Result<String> {
        Ok(self.kubectl(&["exec", pod, "--", "sh", "-c", script], "").await?.trim_end().to_owned())
    }

    /// What kubectl prints, in the namespace of the case; fails when it does.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.kubectl_output(arguments, input).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(anyhow!("kubectl {}: {}", arguments.join(" "), said.trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// kubectl to whatever end.
    pub async fn kubectl_output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let (cluster, input) = (self.cluster.clone(), input.to_owned());
        let arguments: Vec<String> =
            ["-n", &self.namespace].iter().chain(arguments).map(|&a| a.to_owned()).collect();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            cluster.kubectl_output(&arguments, &input)
        })
        .await?
    }

    /// The namespace, for what is in one.
    fn scope(&self, resource: &Resource) -> &str {
        if resource.namespaced { &self.namespace } else { "" }
    }
}
