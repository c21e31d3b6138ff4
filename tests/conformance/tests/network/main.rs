//! The texts about the network between pods: services, names, proxies.

mod endpoints;
mod kinds;
mod names;
mod pods;
mod services;
mod ways;

use conformance::{Case, cases};

const CASES: &[Case] = cases! {
    "[sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server [Conformance]" => | kinds::server_endpoints,
    "[sig-network] API Server should provide secure master service [Conformance]" => | kinds::secure_service,
    "[sig-network] DNS should provide /etc/hosts entries for the cluster [Conformance]" => | names::hosts_file,
    "[sig-network] DNS should provide DNS for ExternalName services [Conformance]" => | names::external,
    "[sig-network] DNS should provide DNS for pods for Hostname [Conformance]" => | names::host_name,
    "[sig-network] DNS should provide DNS for pods for Subdomain [Conformance]" => | names::subdomain,
    "[sig-network] DNS should provide DNS for services [Conformance]" => | names::of_services,
    "[sig-network] DNS should provide DNS for the cluster [Conformance]" => | names::of_cluster,
    "[sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly] [Conformance]" => | names::partial,
    "[sig-network] DNS should support configurable pod DNS nameservers [Conformance]" => | names::configured,
    "[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service [Conformance]" => | endpoints::of_pods,
    "[sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no pods [Conformance]" => | endpoints::of_none,
    "[sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices [Conformance]" => | endpoints::addresses_in_slices,
    "[sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices [Conformance]" => | endpoints::ports_in_slices,
    "[sig-network] EndpointSlice should support creating EndpointSlice API operations [Conformance]" => | kinds::endpoint_slices,
    "[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete [Conformance]" => | endpoints::mirrored,
    "[sig-network] Endpoints should test the lifecycle of an Endpoint [Conformance]" => | kinds::endpoints_lifecycle,
    "[sig-network] EndpointsController should create Endpoints for Pods matching a Service [Conformance]" => | endpoints::of_pods,
    "[sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no pods [Conformance]" => | endpoints::of_none,
    "[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly] [Conformance]" => | ways::host_ports,
    "[sig-network] Ingress API should support creating Ingress API operations [Conformance]" => | kinds::ingresses,
    "[sig-network] IngressClass API should support creating IngressClass API operations [Conformance]" => | kinds::ingress_classes,
    "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [NodeConformance] [Conformance]" => | |bed| ways::http(bed, false),
    "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp [NodeConformance] [Conformance]" => | |bed| ways::udp(bed, false),
    "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| ways::http(bed, true),
    "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| ways::udp(bed, true),
    "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy [Conformance]" => | ways::proxy,
    "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath [Conformance]" => | ways::proxy_with_path,
    "[sig-network] Proxy version v1 should proxy through a service and a pod [Conformance]" => | ways::through_server,
    "[sig-network] Service endpoints latency should not be very high [Conformance]" => | endpoints::latency,
    "[sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations [Conformance]" => | kinds::ip_addresses,
    "[sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations [Conformance]" => alone | kinds::service_cidrs,
    "[sig-network] Services should be able to change the type from ClusterIP to ExternalName [Conformance]" => | services::cluster_ip_to_external,
    "[sig-network] Services should be able to change the type from ExternalName to ClusterIP [Conformance]" => | services::external_to_cluster_ip,
    "[sig-network] Services should be able to change the type from ExternalName to NodePort [Conformance]" => | services::external_to_node_port,
    "[sig-network] Services should be able to change the type from NodePort to ExternalName [Conformance]" => | services::node_port_to_external,
    "[sig-network] Services should be able to create a functioning NodePort service [Conformance]" => | services::on_nodes,
    "[sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly] [Conformance]" => | |bed| services::switched_affinity(bed, "NodePort"),
    "[sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly] [Conformance]" => | |bed| services::switched_affinity(bed, "ClusterIP"),
    "[sig-network] Services should complete a service status lifecycle [Conformance]" => | kinds::service_status,
    "[sig-network] Services should delete a collection of services [Conformance]" => | kinds::service_collection,
    "[sig-network] Services should find a service from listing all namespaces [Conformance]" => | kinds::services_of_all_namespaces,
    "[sig-network] Services should have session affinity work for NodePort service [LinuxOnly] [Conformance]" => | |bed| services::affinity(bed, "NodePort"),
    "[sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly] [Conformance]" => | |bed| services::affinity(bed, "ClusterIP"),
    "[sig-network] Services should serve a basic endpoint from pods [Conformance]" => | endpoints::basic,
    "[sig-network] Services should serve endpoints on same port and different protocols [Conformance]" => | services::same_port,
    "[sig-network] Services should serve multiport endpoints from pods [Conformance]" => | endpoints::of_many_ports,
};

/// What is not shown, and why.
const NOT_YET: &[(&str, &str)] = &[];

fn main() -> anyhow::Result<()> {
    conformance::socat::prepare()?;
    conformance::run(CASES, NOT_YET)
}
