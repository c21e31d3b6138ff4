//! A cluster in a map, and a request to it; and the chain as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use proto_kube::status::Result;
use proto_kube::view::View;
use proto_kube::{GroupResource, User, object, resource};
use serde_json::{Value, json};

use crate::csr::{COMMON_NAME, INTEGER, OID, ORGANIZATION, SEQUENCE, SET};
use crate::{Effects, Operation, Request, admit, plugins, validate};

/// Objects by group, resource, namespace and name.
#[derive(Default)]
pub(crate) struct Cluster(BTreeMap<(String, String, String, String), Arc<Value>>);

impl Cluster {
    /// Of objects, each with its group and resource.
    pub(crate) fn of(objects: impl IntoIterator<Item = (&'static str, &'static str, Value)>) -> Self {
        let mut cluster = Self::default();
        for (group, resource, object) in objects {
            cluster.put(group, resource, object);
        }
        cluster
    }

    /// With the namespace `ns` and its default service account.
    pub(crate) fn usual() -> Self {
        Self::of([
            ("", "namespaces", json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}})),
            ("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "ns"}})),
        ])
    }

    /// One more object.
    pub(crate) fn and(mut self, group: &str, resource: &str, object: Value) -> Self {
        self.put(group, resource, object);
        self
    }

    /// Puts an object in place of the one of its name.
    pub(crate) fn put(&mut self, group: &str, resource: &str, object: Value) {
        let text = |text: &str| text.to_owned();
        let key =
            (text(group), text(resource), text(object::namespace(&object)), text(object::name(&object)));
        self.0.insert(key, Arc::new(object));
    }
}

impl View for Cluster {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let text = |text: &str| text.to_owned();
        self.0.get(&(text(resource.group), text(resource.resource), text(namespace), text(name))).cloned()
    }

    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let of = |key: &(String, String, String, String)| {
            key.0 == resource.group
                && key.1 == resource.resource
                && (namespace.is_empty() || key.2 == namespace)
        };
        self.0.iter().filter(|(key, _)| of(key)).map(|(_, object)| object.clone()).collect()
    }
}

/// A request that a test makes.
pub(crate) struct Ask {
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'static str,
    pub(crate) operation: Operation,
    pub(crate) user: User,
    pub(crate) old: Option<Value>,
    pub(crate) may: bool,
    pub(crate) dry_run: bool,
}

impl Ask {
    /// To create an object.
    pub(crate) fn create(group: &'static str, resource: &'static str) -> Self {
        Self {
            group,
            resource,
            subresource: "",
            operation: Operation::Create,
            user: User { name: "jane".to_owned(), ..User::default() },
            old: None,
            may: false,
            dry_run: false,
        }
    }

    /// To change an object.
    pub(crate) fn update(group: &'static str, resource: &'static str, old: Value) -> Self {
        Self { operation: Operation::Update, old: Some(old), ..Self::create(group, resource) }
    }

    /// To delete an object.
    pub(crate) fn delete(group: &'static str, resource: &'static str, old: Value) -> Self {
        Self { operation: Operation::Delete, old: Some(old), ..Self::create(group, resource) }
    }

    /// Of a subresource.
    pub(crate) fn sub(self, subresource: &'static str) -> Self {
        Self { subresource, ..self }
    }

    /// By the agent of a node.
    pub(crate) fn by_node(self, node: &str) -> Self {
        let user = User {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".to_owned()],
            ..User::default()
        };
        Self { user, ..self }
    }

    fn with<T>(&self, object: &Value, call: impl FnOnce(&Request<'_>) -> T) -> T {
        let named = if object.is_null() { self.old.as_ref().unwrap_or(object) } else { object };
        let resource =
            resource::preferred(GroupResource { group: self.group, resource: self.resource }).unwrap();
        let namespace = match object::namespace(named) {
            "" if resource.namespaced => "ns",
            namespace => namespace,
        };
        call(&Request {
            operation: self.operation,
            resource,
            subresource: self.subresource,
            namespace,
            name: object::name(named),
            user: &self.user,
            old: self.old.as_ref(),
            options: &Value::Null,
            dry_run: self.dry_run,
            suffix: "x7x7x",
            may: &|_, _, _, _| self.may,
        })
    }

    /// Through the first pass.
    pub(crate) fn admit(&self, object: &mut Value, view: &dyn View) -> Result<Effects> {
        let asked = object.clone();
        self.with(&asked, |request| admit(request, object, view, now()))
    }

    /// Through both passes.
    pub(crate) fn through(&self, object: &Value, view: &dyn View) -> Result<Effects> {
        let mut object = object.clone();
        self.admit(&mut object, view)?;
        self.validate(&object, view)
    }

    /// Through the second pass.
    pub(crate) fn validate(&self, object: &Value, view: &dyn View) -> Result<Effects> {
        self.with(object, |request| validate(request, object, view, now()))
    }

    /// The text of the refusal in the first or the second pass; empty for none.
    pub(crate) fn refusal(&self, object: &Value, view: &dyn View) -> String {
        self.through(object, view).err().map_or_else(String::new, |status| status.message)
    }
}

/// The time of all tests.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// A pod with one container.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

/// A value in DER.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}

/// A request of which only the subject is right, as it stands in `spec.request`.
pub(crate) fn request(name: &str, organizations: &[&str]) -> String {
    STANDARD.encode(pem_request(name, organizations))
}

/// The same as PEM.
pub(crate) fn pem_request(name: &str, organizations: &[&str]) -> String {
    let pair = |oid: &[u8], text: &str| {
        value(SET, &value(SEQUENCE, &[value(OID, oid), value(0x0c, text.as_bytes())].concat()))
    };
    let mut pairs: Vec<u8> = organizations.iter().flat_map(|o| pair(ORGANIZATION, o)).collect();
    pairs.extend(pair(COMMON_NAME, name));
    let info = value(SEQUENCE, &[value(INTEGER, &[0]), value(SEQUENCE, &pairs)].concat());
    let body = STANDARD.encode(value(SEQUENCE, &info));
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn the_order_is_upstreams() {
    let names: Vec<_> = plugins().collect();
    assert_eq!(names.len(), 21);
    assert_eq!((names[0], names[20]), ("NamespaceLifecycle", "ResourceQuota"));
    let at = |name| names.iter().position(|n| *n == name).unwrap();
    assert!(at("LimitRanger") < at("ServiceAccount"));
    assert!(at("PodSecurity") < at("Priority"));
    assert!(at("Priority") < at("DefaultTolerationSeconds"));
}

#[test]
fn a_pod_goes_through_both_passes_unchanged_the_second_time() {
    let range = json!({"metadata": {"name": "r", "namespace": "ns"}, "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}]}});
    let quota =
        json!({"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": {"requests.cpu": "1"}}});
    let cluster = Cluster::usual().and("", "limitranges", range).and("", "resourcequotas", quota);
    let mut object = pod("p");
    let ask = Ask::create("", "pods");
    ask.admit(&mut object, &cluster).unwrap();
    let once = object.clone();
    ask.admit(&mut object, &cluster).unwrap();
    assert_eq!(object, once, "admitting what was admitted changes nothing");
    // The default of the range is what the quota is charged.
    let charges = ask.validate(&object, &cluster).unwrap().charges;
    assert_eq!(charges[0].object["status"]["used"]["requests.cpu"], "1");
}
