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
    CRON_JOBS = "batch" "cronjobs";
    DAEMON_SETS = "apps" "daemonsets";
    DEPLOYMENTS = "apps" "deployments";
    JOBS = "batch" "jobs";
    NODES = "" "nodes";
    PODS = "" "pods";
    REPLICA_SETS = "apps" "replicasets";
    REPLICATION_CONTROLLERS = "" "replicationcontrollers";
    REVISIONS = "apps" "controllerrevisions";
    STATEFUL_SETS = "apps" "statefulsets";
}

/// How a resource is served.
///
/// # Panics
/// For one that is not in the catalogue: only constants are asked for.
pub(crate) fn served(of: GroupResource<'static>) -> &'static Resource {
    resource::preferred(of).expect("in the catalogue")
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
