//! A pod's resolver configuration. Pure.

use agent_core::pod;
use k8s_openapi::api::core::v1::Pod;
use proto_cri::DnsConfig;

/// What resolvers read at most.
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// The configuration of a pod on a node with this `resolv.conf`. Without a cluster DNS server `ClusterFirst` is
/// `Default`.
pub(crate) fn config(pod: &Pod, resolv_conf: &str) -> DnsConfig {
    let spec = pod::spec(pod);
    let mut config = match spec.dns_policy.as_deref() {
        Some("None") => DnsConfig::default(),
        _ => parse(resolv_conf),
    };
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
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|item| seen.insert(item.clone()));
    }
    config.servers.truncate(SERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    config
}

fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split([' ', '\t']).filter(|w| !w.is_empty()).map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => config.servers.extend(words.next()),
            Some("search") => config.searches = words.collect(),
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

    fn check(spec: Value) -> (String, String, String) {
        let pod = crate::decode::own_pod(json!({"spec": spec})).unwrap();
        let host = "# x\nnameserver 10.0.0.1\nnameserver\t10.0.0.2\nsearch a b\noptions ndots:2 rotate\n";
        let config = config(&pod, host);
        (config.servers.join(" "), config.searches.join(" "), config.options.join(" "))
    }

    #[test]
    fn policies() {
        let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let host = text("10.0.0.1 10.0.0.2", "a b", "ndots:2 rotate");
        assert_eq!(check(json!({"containers": [], "dnsPolicy": "Default"})), host);
        assert_eq!(check(json!({"containers": [], "dnsPolicy": "ClusterFirst"})), host);
        let own = json!({"nameservers": ["10.0.0.2", "1.1.1.1", "2.2.2.2"], "searches": ["c"],
            "options": [{"name": "ndots", "value": "5"}, {"name": "debug"}]});
        assert_eq!(
            check(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": own})),
            text("10.0.0.2 1.1.1.1 2.2.2.2", "c", "ndots:5 debug")
        );
        assert_eq!(
            check(json!({"containers": [], "dnsConfig": own})),
            text("10.0.0.1 10.0.0.2 1.1.1.1", "a b c", "rotate ndots:5 debug")
        );
    }
}
