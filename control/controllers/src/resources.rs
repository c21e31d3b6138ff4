//! The resources that controllers read and write.

use proto_kube::{GroupResource, Resource, resource};

macro_rules! resources {
    ($($name:ident = $group:literal $plural:literal;)*) => {
        $(pub(crate) const $name: GroupResource<'static> = GroupResource { group: $group, resource: $plural };)*

        #[cfg(test)]
        const ALL: &[GroupResource<'static>] = &[$($name),*];
    };
}

resources! {
    ATTRIBUTES_CLASSES = "storage.k8s.io" "volumeattributesclasses";
    BUDGETS = "policy" "poddisruptionbudgets";
    CLAIMS = "" "persistentvolumeclaims";
    CLUSTER_ROLES = "rbac.authorization.k8s.io" "clusterroles";
    CONFIG_MAPS = "" "configmaps";
    CRON_JOBS = "batch" "cronjobs";
    DAEMON_SETS = "apps" "daemonsets";
    DEPLOYMENTS = "apps" "deployments";
    ENDPOINTS = "" "endpoints";
    ENDPOINT_SLICES = "discovery.k8s.io" "endpointslices";
    EVENTS = "" "events";
    IP_ADDRESSES = "networking.k8s.io" "ipaddresses";
    JOBS = "batch" "jobs";
    LEASES = "coordination.k8s.io" "leases";
    NAMESPACES = "" "namespaces";
    NODES = "" "nodes";
    PODS = "" "pods";
    REPLICATION_CONTROLLERS = "" "replicationcontrollers";
    QUOTAS = "" "resourcequotas";
    REPLICA_SETS = "apps" "replicasets";
    REVISIONS = "apps" "controllerrevisions";
    SECRETS = "" "secrets";
    SERVICES = "" "services";
    SERVICE_ACCOUNTS = "" "serviceaccounts";
    SERVICE_CIDRS = "networking.k8s.io" "servicecidrs";
    SIGNING_REQUESTS = "certificates.k8s.io" "certificatesigningrequests";
    STATEFUL_SETS = "apps" "statefulsets";
    VOLUMES = "" "persistentvolumes";
}

/// How a resource is served.
///
/// # Panics
/// For one that is not in the catalogue: only constants are asked for.
pub(crate) fn served(of: GroupResource<'static>) -> &'static Resource {
    resource::preferred(of).expect("in the catalogue")
}

/// All that is kept and can be deleted, each once; but for events, of which there are very many and which end by
/// themselves.
pub(crate) fn kept() -> impl Iterator<Item = &'static Resource> {
    let events = |r: &Resource| r.plural == "events";
    let kept = resource::all().iter().filter(move |r| r.verbs().contains(&"delete") && !events(r));
    // Of those that have several versions or names the first.
    kept.filter(|r| resource::all().iter().find(|o| o.prefix() == r.prefix()) == Some(*r))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_catalogue() {
        for of in ALL {
            assert_eq!(served(*of).group_resource(), *of);
        }
    }
}
