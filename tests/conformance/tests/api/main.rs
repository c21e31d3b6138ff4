//! The texts about the API itself: its machinery, who may use it, events.

mod accounts;
mod events;
mod garbage;
mod kinds;
mod namespaces;
mod quota;
mod server;
mod watches;

use conformance::{Case, cases};

const CASES: &[Case] = cases! {
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions [Conformance]" => | |bed| kinds::match_conditions(bed, "mutatingwebhookconfigurations"),
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions [Conformance]" => | |bed| kinds::match_conditions(bed, "validatingwebhookconfigurations"),
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]" => | kinds::webhooks_discovered,
    "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]" => | server::aggregated,
    "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers [Conformance]" => | server::aggregated_raw,
    "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]" => | server::groups,
    "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]" => | server::preferred_versions,
    "[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object [Conformance]" => | server::unknown_and_double,
    "[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object [Conformance]" => | server::unknown_metadata,
    "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning [Conformance]" => | garbage::deployment_in_background,
    "[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]" => | garbage::controller_in_background,
    "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so [Serial] [Conformance]" => | garbage::controller_in_foreground,
    "[sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]" => | garbage::circle,
    "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Serial] [Conformance]" => | garbage::two_owners,
    "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan [Conformance]" => | garbage::deployment_orphans,
    "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Serial] [Conformance]" => | garbage::controller_orphans,
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations [Conformance]" => | kinds::mutating_policies,
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations [Conformance]" => | kinds::mutating_bindings,
    "[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace [Conformance]" => | namespaces::finalizer,
    "[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace [Conformance]" => | namespaces::updated,
    "[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status [Conformance]" => | namespaces::status,
    "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted [Conformance]" => | namespaces::takes_pods,
    "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted [Conformance]" => | namespaces::takes_services,
    "[sig-api-machinery] Namespaces [Serial] should patch a Namespace [Conformance]" => | namespaces::patched,
    "[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first [Conformance]" => | namespaces::pods_first,
    "[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]" => | quota::status,
    "[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]" => | quota::changed,
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap. [Conformance]" => | quota::config_map,
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod. [Conformance]" => | quota::of_pod,
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set. [Conformance]" => | quota::replica_set,
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller. [Conformance]" => | quota::replication_controller,
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret. [Conformance]" => | quota::secret,
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service. [Conformance]" => | quota::service,
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated. [Conformance]" => | quota::prompt,
    "[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]" => | quota::lifecycle,
    "[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]" => | quota::best_effort,
    "[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]" => | quota::terminating,
    "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls [Conformance]" => | server::pieces,
    "[sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow] [Conformance]" => alone | server::pieces_of_a_forgotten_past,
    "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata [Conformance]" => | server::no_table,
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]" => | kinds::validating_policies,
    "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]" => | kinds::validating_bindings,
    "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch [Conformance]" => | watches::restarted,
    "[sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]" => | watches::from_version,
    "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]" => | watches::by_label,
    "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector [Conformance]" => | watches::stops_to_match,
    "[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]" => | watches::same_order,
    "[sig-api-machinery] server version should find the server version [Conformance]" => | server::version,
    "[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations [Conformance]" => | kinds::signing_requests,
    "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer [Conformance]" => | accounts::discovered_keys,
    "[sig-auth] ServiceAccounts should allow opting out of API token automount [Conformance]" => | accounts::opted_out,
    "[sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview [Conformance]" => | accounts::token_review,
    "[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]" => | accounts::root_authority,
    "[sig-auth] ServiceAccounts should mount an API token into pods [Conformance]" => | accounts::mounted,
    "[sig-auth] ServiceAccounts should mount projected service account token [Conformance]" => | accounts::projected,
    "[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount [Conformance]" => | accounts::lifecycle,
    "[sig-auth] ServiceAccounts should update a ServiceAccount [Conformance]" => | accounts::updated,
    "[sig-auth] SubjectReview should support SubjectReview API operations [Conformance]" => | accounts::reviews,
    "[sig-instrumentation] Events API should delete a collection of events [Conformance]" => | |bed| events::collection(bed, "events.events.k8s.io"),
    "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed [Conformance]" => | events::newer_lifecycle,
    "[sig-instrumentation] Events should delete a collection of events [Conformance]" => | |bed| events::collection(bed, "events"),
    "[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]" => | events::core_lifecycle,
};

const FLOW: &str = "fairness has no FlowSchema and PriorityLevelConfiguration objects, not built yet";
const CEL: &str = "needs CEL to compile what is written, not built yet";
const WEBHOOK: &str = "needs the API server to call webhooks, not built yet: it keeps them and warns";
const CRD: &str = "needs custom resources, not built yet";
const AGG: &str = "needs the aggregation layer, not built yet";
const POLICY: &str = "needs policies in CEL to be executed, not built yet: they are kept, with a warning";

/// What is not shown, and why.
const NOT_YET: &[(&str, &str)] = &[
    (
        "[sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]",
        FLOW,
    ),
    (
        "[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations [Conformance]",
        FLOW,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions [Conformance]",
        CEL,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions [Conformance]",
        CEL,
    ),
    (
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook [Conformance]",
        WEBHOOK,
    ),
    (
        "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly] [Conformance]",
        AGG,
    ),
    (
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2 [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR [Conformance]",
        CRD,
    ),
    (
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment [Conformance]",
        POLICY,
    ),
    (
        "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations [Conformance]",
        POLICY,
    ),
    (
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables. [Conformance]",
        POLICY,
    ),
    (
        "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment [Conformance]",
        POLICY,
    ),
];

fn main() -> anyhow::Result<()> {
    conformance::run(CASES, NOT_YET)
}
