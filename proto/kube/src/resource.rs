//! The resources that are served: what discovery tells about each, and where each is stored.

use crate::gvk::{GroupResource, Gvk};

/// A resource in one of its versions.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    /// As `v1`.
    pub version: &'static str,
    /// As `Pod`.
    pub kind: &'static str,
    /// As `pods`.
    pub plural: &'static str,
    /// As `pod`.
    pub singular: &'static str,
    /// As `po`.
    pub short: &'static [&'static str],
    /// As `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// How its objects are kept.
    pub storage: Storage,
    /// As `status`.
    pub subresources: &'static [Subresource],
}

/// Whether and where objects are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Below `/registry/<path>/`, with all verbs.
    Kept(&'static str),
    /// Nowhere: a question that is answered, as a `SubjectAccessReview`, or an action, as a `Binding`. `create` only.
    Answered,
}

/// A subresource.
#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    /// As `status`.
    pub name: &'static str,
    /// Group, version and kind of its body; empty for that of the resource itself.
    pub body: (&'static str, &'static str, &'static str),
    /// As `get`.
    pub verbs: &'static [&'static str],
}

/// The verbs of a resource that is kept, in the order discovery prints them.
pub const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Resource {
    /// The resource in whatever version.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource<'static> {
        GroupResource { group: self.group, resource: self.plural }
    }

    /// Its `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.gvk().api_version()
    }

    /// Its kind with group and version.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        Gvk { group: self.group.to_owned(), version: self.version.to_owned(), kind: self.kind.to_owned() }
    }

    /// What clients may do with it.
    #[must_use]
    pub fn verbs(&self) -> &'static [&'static str] {
        match self.storage {
            // Nobody removes all namespaces at once.
            Storage::Kept("namespaces") => &["create", "delete", "get", "list", "patch", "update", "watch"],
            Storage::Kept(_) => VERBS,
            Storage::Answered => &["create"],
        }
    }

    /// A subresource by its name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Where it is served: the path of an object, or of the list for an empty name; an empty namespace means all.
    #[must_use]
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let mut path = format!("{root}/{}", self.version);
        if self.namespaced && !namespace.is_empty() {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        if !name.is_empty() {
            path += &format!("/{name}");
        }
        path
    }

    /// The key below which its objects are stored, with a slash at its end.
    #[must_use]
    pub fn prefix(&self) -> Option<String> {
        match self.storage {
            Storage::Kept(path) => Some(format!("/registry/{path}/")),
            Storage::Answered => None,
        }
    }

    /// The key of an object, as upstream lays it out: `/registry/pods/default/web`.
    #[must_use]
    pub fn key(&self, namespace: &str, name: &str) -> Option<String> {
        let prefix = self.prefix()?;
        Some(if self.namespaced { format!("{prefix}{namespace}/{name}") } else { format!("{prefix}{name}") })
    }
}

/// All resources, grouped as discovery lists them; of a group with several versions the preferred one first.
#[must_use]
pub fn all() -> &'static [Resource] {
    ALL
}

/// The resource at `/apis/<group>/<version>/<plural>`.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// The resource of a kind.
#[must_use]
pub fn of_kind(gvk: &Gvk) -> Option<&'static Resource> {
    ALL.iter().find(|r| r.group == gvk.group && r.version == gvk.version && r.kind == gvk.kind)
}

/// The preferred version of a resource.
#[must_use]
pub fn preferred(resource: GroupResource<'_>) -> Option<&'static Resource> {
    ALL.iter().find(|r| r.group == resource.group && r.plural == resource.resource)
}

const GPU: &[&str] = &["get", "patch", "update"];
const STATUS: Subresource = Subresource { name: "status", body: ("", "", ""), verbs: GPU };
const SCALE: Subresource = Subresource { name: "scale", body: ("autoscaling", "v1", "Scale"), verbs: GPU };

const fn action(name: &'static str, group: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, body: (group, "v1", kind), verbs: &["create"] }
}
const fn stream(name: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, body: ("", "v1", kind), verbs: &["create", "get"] }
}
const fn proxy(kind: &'static str) -> Subresource {
    let verbs = &["create", "delete", "get", "patch", "update"];
    Subresource { name: "proxy", body: ("", "v1", kind), verbs }
}

const POD: &[Subresource] = &[
    stream("attach", "PodAttachOptions"),
    action("binding", "", "Binding"),
    Subresource { name: "ephemeralcontainers", body: ("", "", ""), verbs: GPU },
    action("eviction", "policy", "Eviction"),
    stream("exec", "PodExecOptions"),
    Subresource { name: "log", body: ("", "", ""), verbs: &["get"] },
    stream("portforward", "PodPortForwardOptions"),
    proxy("PodProxyOptions"),
    Subresource { name: "resize", body: ("", "", ""), verbs: GPU },
    STATUS,
];

const fn kept(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> Resource {
    Resource {
        group,
        version,
        kind,
        plural,
        singular,
        short: &[],
        categories: &[],
        namespaced: true,
        storage: Storage::Kept(plural),
        subresources: &[],
    }
}
const fn cluster(r: Resource) -> Resource {
    Resource { namespaced: false, ..r }
}
const fn short(short: &'static [&'static str], r: Resource) -> Resource {
    Resource { short, ..r }
}
const fn in_all(r: Resource) -> Resource {
    Resource { categories: &["all"], ..r }
}
const fn extension(r: Resource) -> Resource {
    Resource { categories: &["api-extensions"], ..cluster(r) }
}
const fn at(path: &'static str, r: Resource) -> Resource {
    Resource { storage: Storage::Kept(path), ..r }
}
const fn with(subresources: &'static [Subresource], r: Resource) -> Resource {
    Resource { subresources, ..r }
}
const fn answered(r: Resource) -> Resource {
    Resource { storage: Storage::Answered, ..r }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
/// Dynamic resource allocation.
const DYNAMIC: &str = "resource.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";
/// `status` alone.
const S: &[Subresource] = &[STATUS];
/// `scale` and `status`.
const SS: &[Subresource] = &[SCALE, STATUS];

#[rustfmt::skip]
// A static: rows are told apart by where they are.
static ALL: &[Resource] = &[
    answered(kept("", "v1", "Binding", "bindings", "binding")),
    short(&["cm"], kept("", "v1", "ConfigMap", "configmaps", "configmap")),
    short(&["ep"], at("services/endpoints", kept("", "v1", "Endpoints", "endpoints", "endpoints"))),
    short(&["ev"], kept("", "v1", "Event", "events", "event")),
    short(&["limits"], kept("", "v1", "LimitRange", "limitranges", "limitrange")),
    short(&["ns"], cluster(with(&[
        Subresource { name: "finalize", body: ("", "", ""), verbs: &["update"] }, STATUS,
    ], kept("", "v1", "Namespace", "namespaces", "namespace")))),
    short(&["no"], cluster(at("minions", with(&[proxy("NodeProxyOptions"), STATUS], kept("", "v1", "Node", "nodes", "node"))))),
    short(&["pvc"], with(S, kept("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim"))),
    short(&["pv"], cluster(with(S, kept("", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume")))),
    short(&["po"], in_all(with(POD, kept("", "v1", "Pod", "pods", "pod")))),
    kept("", "v1", "PodTemplate", "podtemplates", "podtemplate"),
    short(&["rc"], in_all(at("controllers", with(SS, kept("", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller"))))),
    short(&["quota"], with(S, kept("", "v1", "ResourceQuota", "resourcequotas", "resourcequota"))),
    kept("", "v1", "Secret", "secrets", "secret"),
    short(&["sa"], with(&[action("token", AUTHENTICATION, "TokenRequest")], kept("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount"))),
    short(&["svc"], in_all(at("services/specs", with(&[proxy("ServiceProxyOptions"), STATUS], kept("", "v1", "Service", "services", "service"))))),

    extension(at("apiregistration.k8s.io/apiservices", with(S, kept("apiregistration.k8s.io", "v1", "APIService", "apiservices", "apiservice")))),

    kept("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision"),
    short(&["ds"], in_all(with(S, kept("apps", "v1", "DaemonSet", "daemonsets", "daemonset")))),
    short(&["deploy"], in_all(with(SS, kept("apps", "v1", "Deployment", "deployments", "deployment")))),
    short(&["rs"], in_all(with(SS, kept("apps", "v1", "ReplicaSet", "replicasets", "replicaset")))),
    short(&["sts"], in_all(with(SS, kept("apps", "v1", "StatefulSet", "statefulsets", "statefulset")))),

    short(&["ev"], kept("events.k8s.io", "v1", "Event", "events", "event")),

    answered(cluster(kept(AUTHENTICATION, "v1", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview"))),
    answered(cluster(kept(AUTHENTICATION, "v1", "TokenReview", "tokenreviews", "tokenreview"))),

    answered(kept(AUTHORIZATION, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview")),
    answered(cluster(kept(AUTHORIZATION, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview"))),
    answered(cluster(kept(AUTHORIZATION, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview"))),
    answered(cluster(kept(AUTHORIZATION, "v1", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview"))),

    short(&["hpa"], in_all(with(S, kept("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler")))),
    short(&["hpa"], in_all(with(S, kept("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler")))),

    short(&["cj"], in_all(with(S, kept("batch", "v1", "CronJob", "cronjobs", "cronjob")))),
    in_all(with(S, kept("batch", "v1", "Job", "jobs", "job"))),

    short(&["csr"], cluster(with(&[
        Subresource { name: "approval", body: ("", "", ""), verbs: GPU }, STATUS,
    ], kept("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", "certificatesigningrequest")))),

    cluster(kept(NETWORKING, "v1", "IngressClass", "ingressclasses", "ingressclass")),
    short(&["ing"], at("ingress", with(S, kept(NETWORKING, "v1", "Ingress", "ingresses", "ingress")))),
    short(&["ip"], cluster(kept(NETWORKING, "v1", "IPAddress", "ipaddresses", "ipaddress"))),
    short(&["netpol"], kept(NETWORKING, "v1", "NetworkPolicy", "networkpolicies", "networkpolicy")),
    cluster(with(S, kept(NETWORKING, "v1", "ServiceCIDR", "servicecidrs", "servicecidr"))),

    short(&["pdb"], with(S, kept("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget"))),

    cluster(kept(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding")),
    cluster(kept(RBAC, "v1", "ClusterRole", "clusterroles", "clusterrole")),
    kept(RBAC, "v1", "RoleBinding", "rolebindings", "rolebinding"),
    kept(RBAC, "v1", "Role", "roles", "role"),

    cluster(kept(STORAGE, "v1", "CSIDriver", "csidrivers", "csidriver")),
    cluster(kept(STORAGE, "v1", "CSINode", "csinodes", "csinode")),
    kept(STORAGE, "v1", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity"),
    short(&["sc"], cluster(kept(STORAGE, "v1", "StorageClass", "storageclasses", "storageclass"))),
    cluster(with(S, kept(STORAGE, "v1", "VolumeAttachment", "volumeattachments", "volumeattachment"))),
    short(&["vac"], cluster(kept(STORAGE, "v1", "VolumeAttributesClass", "volumeattributesclasses", "volumeattributesclass"))),

    extension(kept(ADMISSION, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies", "mutatingadmissionpolicy")),
    extension(kept(ADMISSION, "v1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding")),
    extension(kept(ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "mutatingwebhookconfiguration")),
    extension(with(S, kept(ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", "validatingadmissionpolicy"))),
    extension(kept(ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "validatingadmissionpolicybinding")),
    extension(kept(ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "validatingwebhookconfiguration")),

    short(&["pc"], cluster(kept("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass"))),

    kept("coordination.k8s.io", "v1", "Lease", "leases", "lease"),

    cluster(kept("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass")),

    kept("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice"),

    cluster(kept(DYNAMIC, "v1", "DeviceClass", "deviceclasses", "deviceclass")),
    with(S, kept(DYNAMIC, "v1", "ResourceClaim", "resourceclaims", "resourceclaim")),
    kept(DYNAMIC, "v1", "ResourceClaimTemplate", "resourceclaimtemplates", "resourceclaimtemplate"),
    cluster(kept(DYNAMIC, "v1", "ResourceSlice", "resourceslices", "resourceslice")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_upstreams() {
        let key = |group, plural, name| find(group, "v1", plural).unwrap().key("ns", name).unwrap();
        assert_eq!(key("", "pods", "a"), "/registry/pods/ns/a");
        assert_eq!(key("", "nodes", "a"), "/registry/minions/a");
        assert_eq!(key("", "services", "a"), "/registry/services/specs/ns/a");
        assert_eq!(key("networking.k8s.io", "ingresses", "a"), "/registry/ingress/ns/a");
        assert_eq!(find("authentication.k8s.io", "v1", "tokenreviews").unwrap().key("", "a"), None);
    }

    #[test]
    fn paths() {
        let path = |group, plural, ns, name| find(group, "v1", plural).unwrap().path(ns, name);
        assert_eq!(path("", "pods", "a", "b"), "/api/v1/namespaces/a/pods/b");
        assert_eq!(path("apps", "deployments", "", ""), "/apis/apps/v1/deployments");
        assert_eq!(path("", "nodes", "a", "b"), "/api/v1/nodes/b");
    }

    #[test]
    fn a_kind_is_found_by_each_of_its_names() {
        for resource in all() {
            assert_eq!(of_kind(&resource.gvk()), Some(resource));
            assert_eq!(find(resource.group, resource.version, resource.plural), Some(resource));
        }
        let hpa = GroupResource { group: "autoscaling", resource: "horizontalpodautoscalers" };
        assert_eq!(preferred(hpa).unwrap().version, "v2");
    }
}
