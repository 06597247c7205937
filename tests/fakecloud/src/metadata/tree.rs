//! The whole metadata tree of a VM, from `/` down.

use std::collections::BTreeMap;

use super::node::{Minted, Node};
use crate::config::{Config, ServiceAccount};

#[derive(Debug)]
pub(crate) struct Tree {
    root: Node,
}

impl Tree {
    pub(crate) fn new(config: &Config) -> Self {
        let project = Node::directory([
            ("attributes", attributes(&config.project_attributes)),
            ("numeric-project-id", Node::Number(config.numeric_project_id)),
            ("project-id", Node::text_of(&config.project_id)),
        ]);
        let universe = Node::directory([("universe-domain", Node::text_of("googleapis.com"))]);
        let v1 = Node::directory([("instance", instance(config)), ("project", project), ("universe", universe)]);
        Self { root: Node::directory([("computeMetadata", Node::directory([("v1", v1)]))]) }
    }

    /// The node at a path as requested, `/computeMetadata/v1/…`.
    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        segments(path).try_fold(&self.root, |node, name| node.child(name))
    }

    /// The value at a path below `/computeMetadata/v1/`.
    pub(crate) fn value(&self, path: &str) -> Option<Vec<u8>> {
        self.get(&format!("/computeMetadata/v1/{path}")).map(Node::text)
    }

    /// Sets the value at a path below `/computeMetadata/v1/`, and makes the directories on the way.
    pub(crate) fn set(&mut self, path: &str, value: Vec<u8>) {
        let mut names: Vec<&str> = segments(path).collect();
        let Some(last) = names.pop() else { return };
        let Some(directory) = names.into_iter().try_fold(self.v1(), descend) else {
            return;
        };
        let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
        match (directory.child_mut(last), number) {
            (Some(Node::Number(old)), Some(number)) => *old = number,
            (Some(old), _) => *old = Node::Bytes(value),
            (None, _) => drop(insert(directory, last, Node::Bytes(value))),
        }
    }

    /// Removes what is at a path below `/computeMetadata/v1/`.
    pub(crate) fn remove(&mut self, path: &str) {
        let mut names: Vec<&str> = segments(path).collect();
        let Some(last) = names.pop() else { return };
        if let Some(Node::Directory(children)) = names.into_iter().try_fold(self.v1(), Node::child_mut) {
            children.remove(last);
        }
    }

    fn v1(&mut self) -> &mut Node {
        // Both names are put there by `new`, and no path given to `set` or `remove` reaches above them.
        ["computeMetadata", "v1"].into_iter().try_fold(&mut self.root, Node::child_mut).expect("/computeMetadata/v1/")
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

fn descend<'a>(node: &'a mut Node, name: &str) -> Option<&'a mut Node> {
    if node.child(name).is_none() {
        insert(node, name, Node::directory([]));
    }
    node.child_mut(name)
}

fn insert(node: &mut Node, name: &str, child: Node) -> Option<Node> {
    match node {
        Node::Directory(children) => children.insert(name.into(), child),
        _ => None,
    }
}

fn attributes(values: &BTreeMap<String, Vec<u8>>) -> Node {
    Node::Directory(values.iter().map(|(key, value)| (key.clone(), Node::Bytes(value.clone()))).collect())
}

/// The entries of <https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>.
fn instance(config: &Config) -> Node {
    let Config { instance_name, project_id, numeric_project_id, zone, machine_type, .. } = config;
    let within_project =
        |kind: &str, name: &str| Node::text_of(&format!("projects/{numeric_project_id}/{kind}/{name}"));
    let text = Node::text_of;
    Node::directory([
        ("attributes", attributes(&config.attributes)),
        ("cpu-platform", text("Intel Broadwell")),
        ("description", text("")),
        ("disks", Node::Numbered(vec![boot_disk(instance_name)])),
        ("guest-attributes", Node::directory([])),
        ("hostname", text(&format!("{instance_name}.{zone}.c.{project_id}.internal"))),
        ("id", Node::Number(config.instance_id)),
        ("image", text("projects/cos-cloud/global/images/cos-stable-129-19506-0-1")),
        ("licenses", Node::Numbered(vec![Node::directory([("id", text("1001010"))])])),
        ("machine-type", within_project("machineTypes", machine_type)),
        ("maintenance-event", text("NONE")),
        ("name", text(instance_name)),
        ("network-interfaces", Node::Numbered(vec![network_interface(*numeric_project_id)])),
        ("preempted", text("FALSE")),
        ("remaining-cpu-time", text("-1")),
        ("scheduling", scheduling(config.preemptible)),
        ("service-accounts", service_accounts(config.service_account.as_ref())),
        ("tags", Node::Tags(config.tags.clone())),
        ("virtual-clock", Node::directory([("drift-token", text("0"))])),
        ("zone", within_project("zones", zone)),
    ])
}

fn scheduling(preemptible: bool) -> Node {
    let boolean = |value| Node::text_of(if value { "TRUE" } else { "FALSE" });
    Node::directory([
        ("automatic-restart", boolean(!preemptible)),
        ("on-host-maintenance", Node::text_of(if preemptible { "TERMINATE" } else { "MIGRATE" })),
        ("preemptible", boolean(preemptible)),
    ])
}

fn boot_disk(name: &str) -> Node {
    Node::directory([
        ("device-name", Node::text_of(name)),
        ("index", Node::Number(0)),
        ("interface", Node::text_of("SCSI")),
        ("mode", Node::text_of("READ_WRITE")),
        ("type", Node::text_of("PERSISTENT-BALANCED")),
    ])
}

fn network_interface(numeric_project_id: u64) -> Node {
    let text = Node::text_of;
    let access = Node::directory([("external-ip", text("203.0.113.7")), ("type", text("ONE_TO_ONE_NAT"))]);
    Node::directory([
        ("access-configs", Node::Numbered(vec![access])),
        ("dns-servers", Node::Lines(vec!["169.254.169.254".into()])),
        ("forwarded-ips", Node::Numbered(Vec::new())),
        ("gateway", text("10.128.0.1")),
        ("ip", text("10.128.0.2")),
        ("ip-aliases", Node::Numbered(Vec::new())),
        ("mac", text("42:01:0a:80:00:02")),
        ("mtu", Node::Number(1460)),
        ("network", text(&format!("projects/{numeric_project_id}/networks/default"))),
        ("subnetmask", text("255.255.240.0")),
        ("target-instance-ips", Node::Numbered(Vec::new())),
    ])
}

/// The account under its e-mail address and under `default`; an empty directory for a VM that has none.
fn service_accounts(account: Option<&ServiceAccount>) -> Node {
    let Some(ServiceAccount { email, scopes }) = account else {
        return Node::directory([]);
    };
    let node = Node::directory([
        ("aliases", Node::Lines(vec!["default".into()])),
        ("email", Node::text_of(email)),
        ("identity", Node::Minted(Minted::Identity)),
        ("scopes", Node::Lines(scopes.clone())),
        ("token", Node::Minted(Minted::Token)),
    ]);
    Node::directory([(email, node.clone()), ("default", node)])
}
