//! What the cluster's names resolve to in a pod.

use anyhow::{Result, ensure};
use conformance::Bed;
use proto_kube::object::text;
use serde_json::{Value, json};

use crate::pods::{client, ip, pod, reaches, service, serving, web};

/// Waits until the DNS answers a pod's question with a line that ends so.
pub(crate) async fn answers(bed: &Bed, from: &str, kind: &str, name: &str, wanted: &str) -> Result<()> {
    bed.eventually(&format!("{kind} of {name}"), || async {
        let said = bed.sh(from, &format!("nslookup -type={kind} {name}")).await?;
        ensure!(said.lines().any(|line| line.trim_end().ends_with(wanted)), "{said}");
        Ok(())
    })
    .await
}

/// Waits until the resolver of a pod, with its search list and its /etc/hosts, finds an address.
async fn resolves(bed: &Bed, from: &str, name: &str, wanted: &str) -> Result<()> {
    bed.eventually(&format!("the address of {name}"), || async {
        let said = bed.sh(from, &format!("ping -c 1 -W 1 {name} | head -n 1")).await?;
        ensure!(said.contains(&format!("({wanted})")), "{said}");
        Ok(())
    })
    .await
}

/// As [`answers`], for a name below one of the pod's search domains.
async fn answers_partly(bed: &Bed, from: &str, kind: &str, name: &str, wanted: &str) -> Result<()> {
    let search = "for d in $(sed -n 's/^search //p' /etc/resolv.conf)";
    bed.eventually(&format!("{kind} of {name} in the search list"), || async {
        let script = format!("{search}; do nslookup -type={kind} {name}.$d; done; true");
        let said = bed.sh(from, &script).await?;
        ensure!(said.lines().any(|line| line.trim_end().ends_with(wanted)), "{said}");
        Ok(())
    })
    .await
}

fn headless(name: &str) -> Value {
    let mut service = service(name, json!([{"name": "http", "port": 80}]));
    service["spec"]["clusterIP"] = "None".into();
    service
}

/// A pod with a host name in the domain of a headless Service.
fn hosted(name: &str, domain: &str) -> Value {
    let mut pod = serving(client(name), domain);
    pod["spec"]["hostname"] = name.into();
    pod["spec"]["subdomain"] = domain.into();
    pod
}

/// The address of the Service `kubernetes`.
async fn server(bed: &Bed) -> Result<String> {
    let bed = Bed { namespace: "default".into(), ..bed.clone() };
    Ok(text(&bed.get("services", "kubernetes").await?, &["spec", "clusterIP"]).to_owned())
}

pub(crate) async fn of_cluster(bed: Bed) -> Result<()> {
    bed.ready(client("p")).await?;
    let server = server(&bed).await?;
    answers(&bed, "p", "a", "kubernetes.default.svc.cluster.local", &format!("Address: {server}")).await?;
    for name in ["kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"] {
        resolves(&bed, "p", name, &server).await?;
    }
    Ok(())
}

pub(crate) async fn hosts_file(bed: Bed) -> Result<()> {
    bed.create("services", headless("s")).await?;
    let pod = bed.ready(hosted("querier", "s")).await?;
    let domain = format!("querier.s.{}.svc.cluster.local", bed.namespace);
    let line = bed.sh("querier", "grep querier /etc/hosts").await?;
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!(words == [ip(&pod), &*domain, "querier"], "{line:?}");
    for name in [&*domain, "querier"] {
        resolves(&bed, "querier", name, ip(&pod)).await?;
    }
    resolves(&bed, "querier", "kubernetes.default", &server(&bed).await?).await
}

pub(crate) async fn of_services(bed: Bed) -> Result<()> {
    let ns = bed.namespace.clone();
    bed.create("services", headless("none")).await?;
    let plain = bed.create("services", service("plain", json!([{"name": "http", "port": 80}]))).await?;
    let one = bed.ready(serving(client("one"), "none")).await?;
    let other = bed.ready(serving(client("other"), "none")).await?;
    let address = text(&plain, &["spec", "clusterIP"]);
    for name in ["plain".to_owned(), format!("plain.{ns}"), format!("plain.{ns}.svc")] {
        resolves(&bed, "one", &name, address).await?;
    }
    for pod in [&one, &other] {
        let wanted = format!("Address: {}", ip(pod));
        answers(&bed, "one", "a", &format!("none.{ns}.svc.cluster.local"), &wanted).await?;
    }
    let domain = format!("plain.{ns}.svc.cluster.local");
    answers(&bed, "one", "srv", &format!("_http._tcp.{domain}"), &format!("80 {domain}")).await?;
    let port = format!("_http._tcp.none.{ns}.svc.cluster.local");
    answers(&bed, "one", "srv", &port, &format!(".none.{ns}.svc.cluster.local")).await?;
    let mut reverse: Vec<&str> = address.split('.').collect();
    reverse.reverse();
    let reverse = format!("{}.in-addr.arpa", reverse.join("."));
    answers(&bed, "one", "ptr", &reverse, &format!("name = {domain}")).await
}

pub(crate) async fn partial(bed: Bed) -> Result<()> {
    let ns = bed.namespace.clone();
    bed.create("services", headless("none")).await?;
    let plain = bed.create("services", service("plain", json!([{"name": "http", "port": 80}]))).await?;
    let pod = bed.ready(serving(client("one"), "none")).await?;
    for (service, address) in [("plain", text(&plain, &["spec", "clusterIP"])), ("none", ip(&pod))] {
        for name in [service.to_owned(), format!("{service}.{ns}"), format!("{service}.{ns}.svc")] {
            resolves(&bed, "one", &name, address).await?;
            let wanted = format!("{service}.{ns}.svc.cluster.local");
            answers_partly(&bed, "one", "srv", &format!("_http._tcp.{name}"), &wanted).await?;
        }
    }
    Ok(())
}

/// A pod with a host name in the subdomain of a headless service, and one that asks for it. Gives the domain, the pod, and
/// what has to be answered.
async fn querier(bed: &Bed) -> Result<(String, Value, String)> {
    bed.create("services", headless("s")).await?;
    bed.ready(client("asks")).await?;
    let pod = bed.ready(hosted("querier", "s")).await?;
    let wanted = format!("Address: {}", ip(&pod));
    Ok((format!("s.{}.svc.cluster.local", bed.namespace), pod, wanted))
}

pub(crate) async fn host_name(bed: Bed) -> Result<()> {
    let (domain, pod, wanted) = querier(&bed).await?;
    answers(&bed, "asks", "a", &format!("querier.{domain}"), &wanted).await?;
    resolves(&bed, "asks", "querier.s", ip(&pod)).await?;
    resolves(&bed, "querier", "querier", ip(&pod)).await?;
    let said = bed.sh("querier", "hostname; hostname -f").await?;
    ensure!(said == format!("querier\nquerier.{domain}"), "{said:?}");
    Ok(())
}

pub(crate) async fn subdomain(bed: Bed) -> Result<()> {
    let (domain, _, wanted) = querier(&bed).await?;
    answers(&bed, "asks", "a", &format!("querier.{domain}"), &wanted).await?;
    answers(&bed, "asks", "a", &domain, &wanted).await
}

pub(crate) async fn external(bed: Bed) -> Result<()> {
    let name = format!("s.{}.svc.cluster.local", bed.namespace);
    let spec = json!({"type": "ExternalName", "externalName": "foo.example.com"});
    bed.create("services", json!({"metadata": {"name": "s"}, "spec": spec})).await?;
    bed.ready(client("asks")).await?;
    answers(&bed, "asks", "cname", &name, "= foo.example.com").await?;
    bed.patch("services", "s", json!({"spec": {"externalName": "bar.example.com"}})).await?;
    answers(&bed, "asks", "cname", &name, "= bar.example.com").await?;
    let spec = json!({"type": "ClusterIP", "externalName": null, "ports": [{"name": "http", "port": 80}]});
    let service = bed.patch("services", "s", json!({"spec": spec})).await?;
    answers(&bed, "asks", "a", &name, &format!("Address: {}", text(&service, &["spec", "clusterIP"]))).await
}

pub(crate) async fn configured(bed: Bed) -> Result<()> {
    let mut pod = pod("p", "busybox:1.35", "cat /etc/resolv.conf");
    pod["spec"]["restartPolicy"] = "Never".into();
    pod["spec"]["dnsPolicy"] = "None".into();
    pod["spec"]["dnsConfig"] = json!({"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]});
    let (phase, output) = bed.ends(pod).await?;
    let wanted = ["search resolv.conf.local", "nameserver 1.1.1.1"];
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable_by(|a, b| b.cmp(a));
    ensure!(phase == "Succeeded" && lines == wanted, "{phase}: {output}");
    Ok(())
}

/// An ExternalName Service leads a pod to a web server of the cluster.
pub(crate) async fn leads_outside(bed: &Bed, from: &str, service: &str, target: &str) -> Result<()> {
    let name = format!("{service}.{}.svc.cluster.local", bed.namespace);
    answers(bed, from, "cname", &name, &format!("= {target}")).await?;
    reaches(bed, from, service, "outside").await
}

/// A Service with a web server called `outside`; gives its domain name.
pub(crate) async fn outside(bed: &Bed) -> Result<String> {
    bed.create("services", service("outside", json!([{"port": 80}]))).await?;
    bed.ready(web("outside", &[80])).await?;
    Ok(format!("outside.{}.svc.cluster.local", bed.namespace))
}
