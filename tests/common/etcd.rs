//! An etcd on loopback, and a way to it that can be cut.

use super::{gateway::free_port, until};
use etcd_client::{Client, ConnectOptions, Txn, TxnOp};
use std::{
    fs,
    future::pending,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::TcpStream,
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tower_balancer::discover::EtcdConfig;

const MS: Duration = Duration::from_millis(1);

/// An etcd with a directory and ports of its own, killed and removed when this is dropped.
pub struct Etcd {
    pub directory: PathBuf,
    pub client: SocketAddr,
    peer: SocketAddr,
    tls: Option<Certificates>,
    process: Option<Child>,
}

/// Files in PEM: who signs, and whom he has signed.
#[derive(Clone)]
pub struct Certificates {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Etcd {
    /// `None`, said loudly, where there is none.
    pub async fn start(name: &str) -> Option<Self> {
        Self::start_with(name, None).await
    }

    pub async fn start_with(name: &str, tls: Option<Certificates>) -> Option<Self> {
        Self::start_at(free(), name, tls).await
    }

    pub async fn start_at(client: SocketAddr, name: &str, tls: Option<Certificates>) -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: {name}: no etcd is installed (apt-get install etcd-server)");
            return None;
        }
        let directory = directory(name);
        let mut etcd = Self { directory, client, peer: free(), tls, process: None };
        etcd.run().await;
        Some(etcd)
    }

    /// Starts it where it left off, and waits until it answers.
    pub async fn run(&mut self) {
        let (client, peer) = (self.url(), format!("http://{}", self.peer));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.directory.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"]);
        if let Some(tls) = &self.tls {
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
            command.arg("--trusted-ca-file").arg(&tls.ca).arg("--client-cert-auth");
        }
        self.process = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until(|| async {
            match Client::connect([self.url()], self.options()).await {
                Ok(mut client) => client.get("ready", None).await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
    }

    pub fn options(&self) -> Option<ConnectOptions> {
        let tls = self.tls.as_ref()?;
        let read = |path: &Path| fs::read(path).unwrap();
        let options = etcd_client::TlsOptions::new()
            .ca_certificate(etcd_client::Certificate::from_pem(read(&tls.ca)))
            .identity(etcd_client::Identity::from_pem(read(&tls.certificate), read(&tls.key)));
        Some(ConnectOptions::new().with_tls(options))
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.client)
    }

    pub fn config(&self) -> EtcdConfig {
        EtcdConfig::new([self.url()]).timeout(MS * 2_000)
    }

    pub async fn client(&self) -> Client {
        Client::connect([self.url()], None).await.unwrap()
    }

    pub async fn put(&self, key: &str, value: &str) {
        self.client().await.put(key, value, None).await.unwrap();
    }

    /// From now on it asks who is there, and knows root, as whom this answers, and `user`, who may do everything as well.
    pub async fn with_user(&self, user: &str, password: &str) -> Client {
        let mut client = self.client().await;
        for (user, password) in [("root", "root"), (user, password)] {
            client.user_add(user, password, None).await.unwrap();
            client.user_grant_role(user, "root").await.unwrap();
        }
        client.auth_enable().await.unwrap();
        let options = ConnectOptions::new().with_user("root", "root");
        Client::connect([self.url()], Some(options)).await.unwrap()
    }

    /// All in one step: nobody sees some of them.
    pub async fn put_all(&self, ports: impl IntoIterator<Item = u16>) {
        let put = |port| TxnOp::put(format!("/web/{port}"), format!(r#"{{"url": "http://10.0.0.1:{port}"}}"#), None);
        let puts: Vec<_> = ports.into_iter().map(put).collect();
        self.client().await.txn(Txn::new().and_then(puts)).await.unwrap();
    }

    pub async fn delete(&self, key: &str) {
        self.client().await.delete(key, None).await.unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        _ = fs::remove_dir_all(&self.directory);
    }
}

pub fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("discover-etcd-{name}-{}", std::process::id()));
    _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

pub fn free() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// The way to an etcd, which can be cut without its knowing, and on which everything can get lost without anybody knowing.
pub struct Way {
    pub address: SocketAddr,
    taken: Arc<AtomicU32>,
    accepting: AbortHandle,
    loses: watch::Sender<bool>,
}

impl Way {
    pub async fn open(address: SocketAddr, to: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<AtomicU32>::default();
        let count = Arc::clone(&taken);
        let loses = watch::Sender::new(false);
        let lost = loses.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let mut lost = lost.subscribe();
                connections.spawn(async move {
                    let carried = async {
                        if let Ok(mut far) = TcpStream::connect(to).await {
                            _ = copy_bidirectional(&mut near, &mut far).await;
                        }
                    };
                    tokio::select! {
                        biased;
                        () = async { drop(lost.wait_for(|lost| *lost).await) } => pending().await,
                        () = carried => {}
                    }
                });
            }
        });
        Self { address, taken, accepting: accepting.abort_handle(), loses }
    }

    /// From now on nothing arrives, and nobody is told: connections stay, and new ones are made.
    pub fn lose(&self) {
        self.loses.send_replace(true);
    }

    /// What comes from now on arrives; the connections that there are stay lost.
    pub fn find(&self) {
        self.loses.send_replace(false);
    }

    /// Waits until somebody takes it.
    pub async fn is_taken(&self) {
        until(|| async { self.taken.load(Ordering::Relaxed) > 0 }).await;
    }

    pub async fn cut(self) -> SocketAddr {
        self.accepting.abort();
        until(|| async { TcpStream::connect(self.address).await.is_err() }).await;
        self.address
    }
}
