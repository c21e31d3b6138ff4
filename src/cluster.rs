//! What all nodes of a cluster must know alike: its ranges of addresses and its names. The control plane writes it into
//! the ConfigMap `kube-system/cleat`, nodes that join read it there.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use client::{Client, ClientError, Patch, Query};
use ipnet::IpNet;
use proto_kube::{GroupResource, Resource, object, resource};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "cleat";
/// In whose name the ConfigMap is kept.
const FIELD_MANAGER: &str = "cleat";
/// When a control plane that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// The place of the name service in the range of services, as upstream's installers have it.
const DNS_PLACE: usize = 10;

/// A cluster's ranges and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Pods' addresses, of which each node has a part.
    pub(crate) pods: Vec<IpNet>,
    /// Services' addresses, the primary range first.
    pub(crate) services: Vec<IpNet>,
    /// What names of services end with.
    pub(crate) domain: String,
}

impl Cluster {
    /// The ranges given; upstream's usual ones where none is.
    pub(crate) fn new(pods: Vec<IpNet>, services: Vec<IpNet>) -> Self {
        let or = |given: Vec<IpNet>, usual: IpNet| if given.is_empty() { vec![usual] } else { given };
        Self {
            pods: or(pods, IpNet::new_assert([10, 244, 0, 0].into(), 16)),
            services: or(services, IpNet::new_assert([10, 96, 0, 0].into(), 12)),
            domain: "cluster.local".to_owned(),
        }
    }

    /// Whether an address can tell a pod from a service.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for (pods, services) in self.pods.iter().flat_map(|p| self.services.iter().map(move |s| (p, s))) {
            if pods.contains(services) || services.contains(pods) {
                bail!("--pod-cidr {pods} and --service-cidr {services} overlap");
            }
        }
        Ok(())
    }

    /// The addresses of the name service, one of each family that services have.
    pub(crate) fn dns(&self) -> Vec<IpAddr> {
        let place = |range: &IpNet| match range {
            IpNet::V4(range) => range.hosts().nth(DNS_PLACE - 1).map(IpAddr::V4),
            IpNet::V6(range) => range.hosts().nth(DNS_PLACE).map(IpAddr::V6),
        };
        self.services.iter().filter_map(place).collect()
    }

    /// Lets every node know.
    pub(crate) async fn publish(&self, client: &Client) -> anyhow::Result<()> {
        let texts = |ranges: &[IpNet]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let data = json!({ "podCIDRs": texts(&self.pods), "serviceCIDRs": texts(&self.services), "domain": self.domain });
        let may_read = json!([{ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME], "verbs": ["get"] }]);
        let nodes =
            json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }]);
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "cleat:nodes" });
        for (group, plural, name, fields) in [
            ("", "configmaps", NAME, json!({ "data": data })),
            ("rbac.authorization.k8s.io", "roles", "cleat:nodes", json!({ "rules": may_read })),
            (
                "rbac.authorization.k8s.io",
                "rolebindings",
                "cleat:nodes",
                json!({ "roleRef": role, "subjects": nodes }),
            ),
        ] {
            let resource = find(group, plural)?;
            let mut object = fields;
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = resource.kind.into();
            object["metadata"] = json!({ "name": name, "namespace": NAMESPACE });
            let query = Query::default().with("fieldManager", FIELD_MANAGER).with("force", "true");
            client.patch((resource, NAMESPACE, name), None, (Patch::Apply, &object), query).await?;
        }
        Ok(())
    }

    /// [`Cluster::read`], for as long as the control plane does not answer.
    ///
    /// # Errors
    /// It answers and refuses, or `shutdown` came first.
    pub(crate) async fn wait(client: &Client, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        let mut told = false;
        loop {
            let failed = tokio::select! {
                read = Self::read(client) => match read {
                    Ok(cluster) => return Ok(cluster),
                    Err(error) => error,
                },
                () = shutdown.cancelled() => bail!("the control plane has not answered"),
            };
            let answered = failed
                .downcast_ref::<ClientError>()
                .is_none_or(|error| error.code().is_some_and(|c| c < 500 && c != 429));
            if answered {
                return Err(failed);
            }
            if !told {
                tracing::warn!(error = format!("{failed:#}"), "waiting for the control plane");
                told = true;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What the control plane has published; upstream's usual ranges where it has not, as another's would not.
    pub(crate) async fn read(client: &Client) -> anyhow::Result<Self> {
        let map = match client.get(find("", "configmaps")?, NAMESPACE, NAME).await {
            Ok(map) => map,
            Err(error) if error.code() == Some(404) || error.code() == Some(403) => Value::Null,
            Err(error) => return Err(error).context("asking for the cluster's ranges of addresses"),
        };
        let ranges = |key: &str| {
            let text = object::text(&map, &["data", key]);
            let parse =
                |range: &str| range.parse().with_context(|| format!("ConfigMap {NAME}: {key}: {range}"));
            text.split(',')
                .filter(|range| !range.is_empty())
                .map(parse)
                .collect::<anyhow::Result<Vec<IpNet>>>()
        };
        let mut cluster = Self::new(ranges("podCIDRs")?, ranges("serviceCIDRs")?);
        let domain = object::text(&map, &["data", "domain"]);
        if !domain.is_empty() {
            domain.clone_into(&mut cluster.domain);
        }
        Ok(cluster)
    }
}

fn find(group: &'static str, plural: &'static str) -> anyhow::Result<&'static Resource> {
    resource::preferred(GroupResource { group, resource: plural })
        .with_context(|| format!("{plural} are not known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap() {
        let check = |pods: &str, services: &str| {
            Cluster::new(vec![pods.parse().unwrap()], vec![services.parse().unwrap()]).check().is_ok()
        };
        assert!(check("10.244.0.0/16", "10.96.0.0/12") && check("fd00::/56", "10.96.0.0/12"));
        assert!(!check("10.244.0.0/16", "10.244.8.0/24") && !check("10.100.0.0/16", "10.96.0.0/12"));
    }

    #[test]
    fn the_name_service_has_the_tenth_address() {
        let cluster = |services: &[&str]| {
            Cluster::new(Vec::new(), services.iter().map(|range| range.parse().unwrap()).collect()).dns()
        };
        let texts = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(cluster(&[])), ["10.96.0.10"]);
        assert_eq!(texts(cluster(&["10.0.0.0/24", "fd00:96::/112"])), ["10.0.0.10", "fd00:96::a"]);
    }
}
