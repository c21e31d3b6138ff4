//! The texts about storage.

mod downward;
mod empty_dir;
mod kinds;
mod subpath;
mod volumes;

use conformance::{Case, cases};
use downward::Kind::{Own, Projected};
use empty_dir::Medium;
use serde_json::json;
use volumes::{MAPPED, MAPPED_MODE, MAPPED_NON_ROOT, MODE, MODE_AND_GROUP, NON_ROOT, PLAIN, Source};

const CASES: &[Case] = cases! {
    "[sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Serial] [Conformance]" => alone | empty_dir::many,
    "[sig-storage] ConfigMap should be consumable from pods in volume [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ConfigMap, PLAIN),
    "[sig-storage] ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ConfigMap, MODE),
    "[sig-storage] ConfigMap should be consumable from pods in volume with mappings [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ConfigMap, MAPPED),
    "[sig-storage] ConfigMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ConfigMap, MAPPED_MODE),
    "[sig-storage] ConfigMap should be consumable from pods in volume as non-root [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ConfigMap, NON_ROOT),
    "[sig-storage] ConfigMap should be consumable from pods in volume with mappings as non-root [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ConfigMap, MAPPED_NON_ROOT),
    "[sig-storage] ConfigMap updates should be reflected in volume [NodeConformance] [Conformance]" => | |bed| volumes::updated(bed, Source::ConfigMap),
    "[sig-storage] ConfigMap should be consumable in multiple volumes in the same pod [NodeConformance] [Conformance]" => | |bed| volumes::twice(bed, Source::ConfigMap),
    "[sig-storage] ConfigMap optional updates should be reflected in volume [NodeConformance] [Conformance]" => | |bed| volumes::optional(bed, Source::ConfigMap),
    "[sig-storage] Secrets should be consumable from pods in volume [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::Secret, PLAIN),
    "[sig-storage] Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::Secret, MODE),
    "[sig-storage] Secrets should be consumable from pods in volume with mappings [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::Secret, MAPPED),
    "[sig-storage] Secrets should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::Secret, MAPPED_MODE),
    "[sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::Secret, MODE_AND_GROUP),
    "[sig-storage] Secrets should be consumable in multiple volumes in a pod [NodeConformance] [Conformance]" => | |bed| volumes::twice(bed, Source::Secret),
    "[sig-storage] Secrets optional updates should be reflected in volume [NodeConformance] [Conformance]" => | |bed| volumes::optional(bed, Source::Secret),
    "[sig-storage] Projected configMap should be consumable from pods in volume [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedConfigMap, PLAIN),
    "[sig-storage] Projected configMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedConfigMap, MODE),
    "[sig-storage] Projected configMap should be consumable from pods in volume with mappings [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedConfigMap, MAPPED),
    "[sig-storage] Projected configMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedConfigMap, MAPPED_MODE),
    "[sig-storage] Projected configMap should be consumable from pods in volume as non-root [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedConfigMap, NON_ROOT),
    "[sig-storage] Projected configMap should be consumable from pods in volume with mappings as non-root [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedConfigMap, MAPPED_NON_ROOT),
    "[sig-storage] Projected configMap updates should be reflected in volume [NodeConformance] [Conformance]" => | |bed| volumes::updated(bed, Source::ProjectedConfigMap),
    "[sig-storage] Projected configMap should be consumable in multiple volumes in the same pod [NodeConformance] [Conformance]" => | |bed| volumes::twice(bed, Source::ProjectedConfigMap),
    "[sig-storage] Projected configMap optional updates should be reflected in volume [NodeConformance] [Conformance]" => | |bed| volumes::optional(bed, Source::ProjectedConfigMap),
    "[sig-storage] Projected secret should be consumable from pods in volume [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedSecret, PLAIN),
    "[sig-storage] Projected secret should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedSecret, MODE),
    "[sig-storage] Projected secret should be consumable from pods in volume with mappings [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedSecret, MAPPED),
    "[sig-storage] Projected secret should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedSecret, MAPPED_MODE),
    "[sig-storage] Projected secret should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| volumes::consumed(bed, Source::ProjectedSecret, MODE_AND_GROUP),
    "[sig-storage] Projected secret should be consumable in multiple volumes in a pod [NodeConformance] [Conformance]" => | |bed| volumes::twice(bed, Source::ProjectedSecret),
    "[sig-storage] Projected secret optional updates should be reflected in volume [NodeConformance] [Conformance]" => | |bed| volumes::optional(bed, Source::ProjectedSecret),
    "[sig-storage] ConfigMap should be immutable if `immutable` field is set [Conformance]" => | |bed| volumes::immutable(bed, Source::ConfigMap),
    "[sig-storage] Secrets should be immutable if `immutable` field is set [Conformance]" => | |bed| volumes::immutable(bed, Source::Secret),
    "[sig-storage] ConfigMap binary data should be reflected in volume [NodeConformance] [Conformance]" => | volumes::binary,
    "[sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with same name in different namespace [NodeConformance] [Conformance]" => | volumes::other_namespace,
    "[sig-storage] Projected combined should project all components that make up the projection API [Projection] [NodeConformance] [Conformance]" => | volumes::combined,
    "[sig-storage] Downward API volume should provide container's cpu limit [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Own, "limits.cpu", "2"),
    "[sig-storage] Downward API volume should provide container's cpu request [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Own, "requests.cpu", "1"),
    "[sig-storage] Downward API volume should provide container's memory limit [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Own, "limits.memory", "67108864"),
    "[sig-storage] Downward API volume should provide container's memory request [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Own, "requests.memory", "33554432"),
    "[sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance] [Conformance]" => | |bed| downward::default(bed, Own, "limits.cpu"),
    "[sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance] [Conformance]" => | |bed| downward::default(bed, Own, "limits.memory"),
    "[sig-storage] Downward API volume should provide podname only [NodeConformance] [Conformance]" => | |bed| downward::name(bed, Own, [None, None], "644"),
    "[sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| downward::name(bed, Own, [Some(0o400), None], "400"),
    "[sig-storage] Downward API volume should set mode on item file [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| downward::name(bed, Own, [None, Some(0o400)], "400"),
    "[sig-storage] Downward API volume should update labels on modification [NodeConformance] [Conformance]" => | |bed| downward::updated(bed, Own, "labels"),
    "[sig-storage] Downward API volume should update annotations on modification [NodeConformance] [Conformance]" => | |bed| downward::updated(bed, Own, "annotations"),
    "[sig-storage] Projected downwardAPI should provide container's cpu limit [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Projected, "limits.cpu", "2"),
    "[sig-storage] Projected downwardAPI should provide container's cpu request [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Projected, "requests.cpu", "1"),
    "[sig-storage] Projected downwardAPI should provide container's memory limit [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Projected, "limits.memory", "67108864"),
    "[sig-storage] Projected downwardAPI should provide container's memory request [NodeConformance] [Conformance]" => | |bed| downward::resource(bed, Projected, "requests.memory", "33554432"),
    "[sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance] [Conformance]" => | |bed| downward::default(bed, Projected, "limits.cpu"),
    "[sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance] [Conformance]" => | |bed| downward::default(bed, Projected, "limits.memory"),
    "[sig-storage] Projected downwardAPI should provide podname only [NodeConformance] [Conformance]" => | |bed| downward::name(bed, Projected, [None, None], "644"),
    "[sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| downward::name(bed, Projected, [Some(0o400), None], "400"),
    "[sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| downward::name(bed, Projected, [None, Some(0o400)], "400"),
    "[sig-storage] Projected downwardAPI should update labels on modification [NodeConformance] [Conformance]" => | |bed| downward::updated(bed, Projected, "labels"),
    "[sig-storage] Projected downwardAPI should update annotations on modification [NodeConformance] [Conformance]" => | |bed| downward::updated(bed, Projected, "annotations"),
    "[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 0, "0644", Medium::Default),
    "[sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 0, "0644", Medium::Memory),
    "[sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 0, "0666", Medium::Default),
    "[sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 0, "0666", Medium::Memory),
    "[sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 0, "0777", Medium::Default),
    "[sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 0, "0777", Medium::Memory),
    "[sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 1000, "0644", Medium::Default),
    "[sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 1000, "0644", Medium::Memory),
    "[sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 1000, "0666", Medium::Default),
    "[sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 1000, "0666", Medium::Memory),
    "[sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 1000, "0777", Medium::Default),
    "[sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::file(bed, 1000, "0777", Medium::Memory),
    "[sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::mode(bed, Medium::Default),
    "[sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly] [NodeConformance] [Conformance]" => | |bed| empty_dir::mode(bed, Medium::Memory),
    "[sig-storage] EmptyDir volumes pod should support shared volumes between containers [Conformance]" => | empty_dir::shared,
    "[sig-storage] EmptyDir wrapper volumes should not conflict [Conformance]" => | empty_dir::beside,
    "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod [Conformance]" => | |bed| subpath::read(bed, subpath::of(Source::ConfigMap), "/data"),
    "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of existing file [Conformance]" => | |bed| subpath::read(bed, subpath::of(Source::ConfigMap), "/etc/passwd"),
    "[sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod [Conformance]" => | |bed| subpath::read(bed, subpath::downward(), "/data"),
    "[sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod [Conformance]" => | |bed| subpath::read(bed, subpath::of(Source::ProjectedConfigMap), "/data"),
    "[sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod [Conformance]" => | |bed| subpath::read(bed, subpath::of(Source::Secret), "/data"),
    "[sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver [Conformance]" => | |bed| kinds::kept(bed, "csidrivers", json!({"spec": {"attachRequired": false}})),
    "[sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API [Conformance]" => | kinds::csi_pod,
    "[sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode [Conformance]" => | |bed| kinds::kept(bed, "csinodes", json!({"spec": {"drivers": []}})),
    "[sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations [Conformance]" => | |bed| kinds::kept(bed, "csistoragecapacities", json!({"storageClassName": "none-such", "capacity": "1Gi"})),
    "[sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass [Conformance]" => | |bed| kinds::kept(bed, "storageclasses", json!({"provisioner": "example.com/none-such"})),
    "[sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment [Conformance]" => | |bed| kinds::kept(bed, "volumeattachments", kinds::attachment()),
    "[sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status [Conformance]" => | kinds::attachment_status,
    "[sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass [Conformance]" => | |bed| kinds::kept(bed, "volumeattributesclasses", json!({"driverName": "example.com", "parameters": {"a": "1"}})),
    "[sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC [Conformance]" => | kinds::volume_and_claim,
    "[sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status [Conformance]" => | kinds::volume_and_claim_status,
    "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass [Conformance]" => | |bed| kinds::kept(bed, "deviceclasses", json!({"spec": {}})),
    "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim [Conformance]" => | |bed| kinds::kept(bed, "resourceclaims", json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "none-such"}}]}}})),
    "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate [Conformance]" => | |bed| kinds::kept(bed, "resourceclaimtemplates", json!({"spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "none-such"}}]}}}})),
    "[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice [Conformance]" => | |bed| kinds::kept(bed, "resourceslices", json!({
        "spec": {
            "driver": "example.com", "nodeName": "none-such", "devices": [{"name": "d"}],
            "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1},
        },
    })),
};

/// What is not shown, and why.
const NOT_YET: &[(&str, &str)] = &[];

fn main() -> anyhow::Result<()> {
    conformance::run(CASES, NOT_YET)
}
