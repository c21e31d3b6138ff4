//! A pod's names and its resolver configuration. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use agent_core::event::Event;
use agent_core::pod;
use k8s_openapi::api::core::v1::Pod;
use proto_cri::DnsConfig;

/// What resolvers read at most.
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
/// Some resolvers end their process at a longer one.
const SEARCH_BYTES_MAX: usize = 253;
/// The longest name that the kernel takes, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest label of a name, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// The DNS of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cluster<'a> {
    /// Its servers; without one `ClusterFirst` is `Default`.
    pub(crate) servers: &'a [IpAddr],
    /// Its domain.
    pub(crate) domain: &'a str,
}

/// The pod's host name: what it asks for, or the beginning of its own name.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = pod::spec(pod);
    let own = spec.hostname_override.as_deref().or(spec.hostname.as_deref().filter(|name| !name.is_empty()));
    let name: String = own.unwrap_or_else(|| pod::name(pod)).chars().take(LABEL_BYTES_MAX).collect();
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The domain of the pod's host name, if it names its part of one.
pub(crate) fn domain(pod: &Pod, cluster: &str) -> Option<String> {
    let spec = pod::spec(pod);
    let subdomain =
        spec.subdomain.as_deref().filter(|s| !s.is_empty() && spec.hostname_override.is_none())?;
    Some(format!("{subdomain}.{}.svc.{cluster}", pod::namespace(pod)))
}

/// The name that the kernel is told.
///
/// # Errors
/// The full name was asked for and is too long: for people.
pub(crate) fn kernel_name(pod: &Pod, cluster: &str) -> Result<String, String> {
    let name = hostname(pod);
    let full = domain(pod, cluster).filter(|_| pod::spec(pod).set_hostname_as_fqdn == Some(true));
    let Some(domain) = full else { return Ok(name) };
    let full = format!("{name}.{domain}");
    if full.len() > NAME_BYTES_MAX {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({NAME_BYTES_MAX} characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// The configuration of a pod on a node with this `resolv.conf`, and what of it had to be left out.
pub(crate) fn config(pod: &Pod, resolv_conf: &str, cluster: Cluster<'_>) -> (DnsConfig, Vec<Event>) {
    let spec = pod::spec(pod);
    let (mut config, mut events) = (parse(resolv_conf), Vec::new());
    match spec.dns_policy.as_deref() {
        Some("None") => config = DnsConfig::default(),
        Some("ClusterFirst") if pod::host_network(pod) => {}
        policy @ (Some("ClusterFirst" | "ClusterFirstWithHostNet") | None) => {
            let policy = policy.unwrap_or("ClusterFirst");
            if cluster.servers.is_empty() {
                let text = format!(
                    "kubelet does not have ClusterDNS IP configured and cannot create Pod using {policy:?} policy. Falling back to \"Default\" policy."
                );
                events.push(Event::new(true, "MissingClusterDNS", &text));
            } else {
                cluster_first(&mut config, pod, cluster);
            }
        }
        _ => {}
    }
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            config.options.retain(|o| o.split(':').next() != Some(name));
            config.options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    for list in [&mut config.servers, &mut config.searches] {
        let mut seen = BTreeSet::new();
        list.retain(|item| seen.insert(item.clone()));
    }
    events.extend(fit(&mut config));
    (config, events)
}

fn cluster_first(config: &mut DnsConfig, pod: &Pod, cluster: Cluster<'_>) {
    let domain = cluster.domain;
    config.servers = cluster.servers.iter().map(ToString::to_string).collect();
    config.options = vec!["ndots:5".to_owned()];
    if !domain.is_empty() {
        let own =
            [format!("{}.svc.{domain}", pod::namespace(pod)), format!("svc.{domain}"), domain.to_owned()];
        config.searches.splice(0..0, own);
    }
}

/// Leaves out what resolvers would not read.
fn fit(config: &mut DnsConfig) -> Vec<Event> {
    let mut events = Vec::new();
    let mut tell = |text: String| events.push(Event::new(true, "DNSConfigForming", &text));
    if config.servers.len() > SERVERS_MAX {
        config.servers.truncate(SERVERS_MAX);
        tell(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            config.servers.join(" ")
        ));
    }
    let all = config.searches.len();
    config.searches.truncate(SEARCHES_MAX);
    config.searches.retain(|search| search.len() <= SEARCH_BYTES_MAX);
    while config.searches.join(" ").len() > SEARCH_CHARS_MAX {
        config.searches.pop();
    }
    if config.searches.len() < all {
        tell(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            config.searches.join(" ")
        ));
    }
    events
}

fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split([' ', '\t']).filter(|w| !w.is_empty()).map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => config.servers.extend(words.next()),
            Some("search") => {
                let domains = words.filter(|w| w != ".");
                config.searches = domains.map(|w| w.trim_end_matches('.').to_owned()).collect();
            }
            Some("options") => config.options.extend(words),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CLUSTER: &str = "10.96.0.10";

    fn pod_of(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        crate::decode::own_pod(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    fn check(spec: Value, servers: &[IpAddr]) -> [String; 4] {
        let host = "# x\nnameserver 10.0.0.1\nnameserver\t10.0.0.2\nsearch a. . b\noptions ndots:2 rotate\n";
        let cluster = Cluster { servers, domain: "cluster.local" };
        let (config, events) = config(&pod_of(spec), host, cluster);
        let events: Vec<_> = events.iter().map(|e| e.reason.clone()).collect();
        [config.servers, config.searches, config.options, events].map(|list| list.join(" "))
    }

    #[test]
    fn policies() {
        let text = |all: [&str; 4]| all.map(str::to_owned);
        let servers = [CLUSTER.parse().unwrap()];
        let host = text(["10.0.0.1 10.0.0.2", "a b", "ndots:2 rotate", ""]);
        let missing = text(["10.0.0.1 10.0.0.2", "a b", "ndots:2 rotate", "MissingClusterDNS"]);
        let cluster =
            text([CLUSTER, "ns.svc.cluster.local svc.cluster.local cluster.local a b", "ndots:5", ""]);
        let own = json!({"nameservers": ["10.0.0.2", "1.1.1.1", "2.2.2.2"], "searches": ["c"],
            "options": [{"name": "ndots", "value": "4"}, {"name": "debug"}]});
        for (spec, servers, expected) in [
            (json!({"dnsPolicy": "Default"}), &servers[..], host.clone()),
            (json!({"dnsPolicy": "ClusterFirst"}), &[], missing),
            (json!({"dnsPolicy": "ClusterFirst"}), &servers, cluster.clone()),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), &servers, host),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), &servers, cluster),
            (
                json!({"dnsPolicy": "None", "dnsConfig": own}),
                &servers,
                text(["10.0.0.2 1.1.1.1 2.2.2.2", "c", "ndots:4 debug", ""]),
            ),
            (
                json!({"dnsPolicy": "Default", "dnsConfig": own}),
                &servers,
                text(["10.0.0.1 10.0.0.2 1.1.1.1", "a b c", "rotate ndots:4 debug", "DNSConfigForming"]),
            ),
        ] {
            assert_eq!(check(spec.clone(), servers), expected, "{spec}");
        }
    }

    #[test]
    fn search_lines_have_an_end() {
        let long: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
        let wide: Vec<String> = (0..20).map(|n| format!("{n}{}", "x".repeat(200))).collect();
        for (searches, kept) in [(long, 32), (wide, 10)] {
            let spec = json!({"dnsPolicy": "None", "dnsConfig": {"searches": searches}});
            let [_, searches, _, events] = check(spec, &[]);
            assert_eq!((searches.split(' ').count(), events.as_str()), (kept, "DNSConfigForming"));
        }
    }

    #[test]
    fn names() {
        let all = |spec: Value| {
            let pod = pod_of(spec);
            (hostname(&pod), domain(&pod, "c.l"), kernel_name(&pod, "c.l"))
        };
        let sub = || Some("s.ns.svc.c.l".to_owned());
        assert_eq!(all(json!({})), ("p".into(), None, Ok("p".into())));
        assert_eq!(all(json!({"hostname": "h"})), ("h".into(), None, Ok("h".into())));
        assert_eq!(all(json!({"hostname": "h", "subdomain": "s"})), ("h".into(), sub(), Ok("h".into())));
        let full = json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true});
        assert_eq!(all(full).2, Ok("h.s.ns.svc.c.l".into()));
        assert_eq!(all(json!({"setHostnameAsFQDN": true})).2, Ok("p".into()));
        let long = json!({"hostname": "h".repeat(60), "subdomain": "s", "setHostnameAsFQDN": true});
        assert!(all(long).2.unwrap_err().contains("(64 characters is the max, 73 characters requested)"));
        let own = json!({"hostname": "h", "subdomain": "s", "hostnameOverride": "o.x"});
        assert_eq!(all(own), ("o.x".into(), None, Ok("o.x".into())));
    }
}
