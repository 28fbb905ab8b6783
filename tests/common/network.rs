//! Machines and the networks between them, on one computer: network namespaces, and bridges whose ports can go silent.

use std::process::Command;

const INSIDE: &str = "TEST_INSIDE_NAMESPACES";

/// Runs this one `test` again, in namespaces that end with it, in which it is `inside` and may do to the network what it likes.
/// Where that is not possible, says so loudly.
pub fn apart(test: &str, inside: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let unshared = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount", "--fork", "--kill-child", program]);
        command
    };
    let tried = unshared("sh")
        .args(["-ec", "mount -t tmpfs tmpfs /run; ip netns add m; ip link add name b type bridge; bridge link"])
        .output();
    match tried {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => return eprintln!("SKIPPED: {test}: {}", String::from_utf8_lossy(&tried.stderr)),
        Err(error) => return eprintln!("SKIPPED: {test}: no unshare (apt-get install util-linux iproute2): {error}"),
    }
    let again = std::env::current_exe().unwrap();
    let ended = unshared(again.to_str().unwrap()).args([test, "--exact", "--nocapture"]).env(INSIDE, "yes").status();
    assert!(ended.unwrap().success(), "see above");
}

/// Once, before there are machines.
pub fn prepare() {
    run("mount -t tmpfs tmpfs /run");
    run("ip link set lo up");
}

/// A network with this process on it.
#[derive(Clone, Copy)]
pub struct Network {
    pub name: &'static str,
    /// Of all addresses on it.
    pub begin: &'static str,
}

impl Network {
    /// This process is number 1.
    pub fn new(name: &'static str, begin: &'static str) -> Self {
        run(&format!("ip link add name {name} type bridge"));
        run(&format!("ip address add {begin}.1/24 dev {name}"));
        run(&format!("ip link set {name} up"));
        Self { name, begin }
    }

    /// Connects a machine.
    pub fn join(self, machine: Machine) {
        let (Self { name, begin }, Machine { name: machine, number }) = (self, machine);
        run(&format!("ip link add name {name}-{machine} type veth peer name {name} netns {machine}"));
        run(&format!("ip -n {machine} address add {begin}.{number}/24 dev {name}"));
        run(&format!("ip -n {machine} link set {name} up"));
        run(&format!("ip link set {name}-{machine} master {name} up"));
    }

    /// From now on nothing that the machine sends arrives, nor anything that is sent to it; nobody is told, and no link is down.
    pub fn silence(self, machine: Machine) {
        run(&format!("bridge link set dev {}-{} state 0", self.name, machine.name));
    }

    pub fn restore(self, machine: Machine) {
        run(&format!("bridge link set dev {}-{} state 3", self.name, machine.name));
    }
}

/// A network namespace.
#[derive(Clone, Copy)]
pub struct Machine {
    pub name: &'static str,
    /// The last part of its addresses.
    pub number: u8,
}

impl Machine {
    pub fn new(name: &'static str, number: u8) -> Self {
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
        Self { name, number }
    }

    /// A program there.
    pub fn command(self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name, program]);
        command
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let ended = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
}
