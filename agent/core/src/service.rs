//! The variables that tell a container of the services of its namespace.

use std::collections::BTreeMap;

use proto_kube::object;
use serde_json::Value;

/// The service that every container is told of: the API server's.
const KUBERNETES: (&str, &str) = ("default", "kubernetes");

/// Variables of the services that a pod of this namespace sees, by name: `WEB_SERVICE_HOST` and the like. Without
/// `links` only those of the API server. Of two services of one name the namespace's own counts.
#[must_use]
pub fn variables<'a>(
    services: impl Iterator<Item = &'a Value>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut seen: BTreeMap<&str, &Value> = BTreeMap::new();
    for service in services.filter(|service| !matches!(address(service), "" | "None")) {
        let (of, name) = (object::namespace(service), object::name(service));
        if (of, name) == KUBERNETES && !(links && of == namespace) {
            seen.entry(name).or_insert(service);
        } else if links && of == namespace {
            seen.insert(name, service);
        }
    }
    seen.into_values().flat_map(of_service).collect()
}

fn address(service: &Value) -> &str {
    object::text(service, &["spec", "clusterIP"])
}

/// `a-b` as a variable's name: `A_B`.
fn upper(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn of_service(service: &Value) -> Vec<(String, String)> {
    let (ip, prefix) = (address(service), upper(object::name(service)));
    let mut all = vec![(format!("{prefix}_SERVICE_HOST"), ip.to_owned())];
    let ports: Vec<&Value> = object::items(service, &["spec", "ports"]).collect();
    let number = |port: &Value| port["port"].as_u64().unwrap_or(0);
    all.extend(ports.first().map(|port| (format!("{prefix}_SERVICE_PORT"), number(port).to_string())));
    for port in ports.iter().filter(|port| !object::text(port, &["name"]).is_empty()) {
        let name = upper(object::text(port, &["name"]));
        all.push((format!("{prefix}_SERVICE_PORT_{name}"), number(port).to_string()));
    }
    for (n, port) in ports.iter().enumerate() {
        let protocol = Some(object::text(port, &["protocol"])).filter(|p| !p.is_empty()).unwrap_or("TCP");
        let (number, lower) = (number(port), protocol.to_lowercase());
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("{lower}://{host}:{number}");
        if n == 0 {
            all.push((format!("{prefix}_PORT"), url.clone()));
        }
        let prefix = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), lower));
        all.push((format!("{prefix}_PORT"), number.to_string()));
        all.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Value {
        let ports = json!([{"name": "http-web", "port": 80}, {"name": "d", "port": 53, "protocol": "UDP"}]);
        json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "ports": ports}})
    }

    #[test]
    fn who_is_told_of_whom() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("a", "my-db", "10.96.0.2"),
            service("a", "headless", "None"),
            service("b", "other", "10.96.0.3"),
            service("b", "kubernetes", "10.96.0.4"),
        ];
        let hosts = |namespace: &str, links| {
            let all = variables(services.iter(), namespace, links);
            let hosts = all.into_iter().filter(|(name, _)| name.ends_with("_SERVICE_HOST"));
            hosts.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(hosts("a", true), "KUBERNETES_SERVICE_HOST=10.96.0.1 MY_DB_SERVICE_HOST=10.96.0.2");
        assert_eq!(hosts("a", false), "KUBERNETES_SERVICE_HOST=10.96.0.1");
        assert_eq!(hosts("b", true), "KUBERNETES_SERVICE_HOST=10.96.0.4 OTHER_SERVICE_HOST=10.96.0.3");
        assert_eq!(hosts("default", true), "KUBERNETES_SERVICE_HOST=10.96.0.1");
    }

    #[test]
    fn names() {
        let all = variables([service("a", "my-db", "fd00::2")].iter(), "a", true);
        let text = all.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("\n");
        assert_eq!(
            text,
            "MY_DB_SERVICE_HOST=fd00::2\nMY_DB_SERVICE_PORT=80\nMY_DB_SERVICE_PORT_HTTP_WEB=80\n\
             MY_DB_SERVICE_PORT_D=53\nMY_DB_PORT=tcp://[fd00::2]:80\nMY_DB_PORT_80_TCP=tcp://[fd00::2]:80\n\
             MY_DB_PORT_80_TCP_PROTO=tcp\nMY_DB_PORT_80_TCP_PORT=80\nMY_DB_PORT_80_TCP_ADDR=fd00::2\n\
             MY_DB_PORT_53_UDP=udp://[fd00::2]:53\nMY_DB_PORT_53_UDP_PROTO=udp\nMY_DB_PORT_53_UDP_PORT=53\n\
             MY_DB_PORT_53_UDP_ADDR=fd00::2"
        );
    }
}
