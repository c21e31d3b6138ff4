//! Generates the CRI types and services with protox and prost: no protoc.
//! What the records of the CRI server and crictl's `inspect` contain can also be written as JSON, with the field
//! names of the proto file.

/// Every message reachable from `PodSandboxConfig` and `ContainerConfig`.
const JSON: &[&str] = &[
    "CDIDevice",
    "Capability",
    "ContainerConfig",
    "ContainerMetadata",
    "DNSConfig",
    "Device",
    "HugepageLimit",
    "IDMapping",
    "ImageSpec",
    "Int64Value",
    "KeyValue",
    "LinuxContainerConfig",
    "LinuxContainerResources",
    "LinuxContainerSecurityContext",
    "LinuxContainerUser",
    "LinuxPodSandboxConfig",
    "LinuxSandboxSecurityContext",
    "Mount",
    "NamespaceOption",
    "PodSandboxConfig",
    "PodSandboxMetadata",
    "PortMapping",
    "SELinuxOption",
    "SecurityProfile",
    "UserNamespace",
    "WindowsContainerConfig",
    "WindowsContainerResources",
    "WindowsContainerSecurityContext",
    "WindowsCpuGroupAffinity",
    "WindowsNamespaceOption",
    "WindowsPodSandboxConfig",
    "WindowsSandboxSecurityContext",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=api.proto");
    let descriptors = protox::compile(["api.proto"], ["."])?;
    let mut config = tonic_prost_build::configure();
    for message in JSON {
        let attribute = "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]";
        config = config.message_attribute(format!("runtime.v1.{message}"), attribute);
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
