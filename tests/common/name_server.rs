//! A name server on loopback for the zone `test.`, over UDP and TCP, whose records change while it runs.

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA, SRV},
    },
};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::{AbortHandle, JoinSet},
};

/// It is gone when this is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    tcp: Arc<TcpListener>,
    zone: Arc<Zone>,
    serving: AbortHandle,
}

/// The records by name, in small letters, and type.
type Zone = Mutex<BTreeMap<(String, RecordType), Vec<Record>>>;

impl NameServer {
    pub async fn start() -> Self {
        let (udp, tcp) = sockets().await;
        Self::at(udp, Arc::new(tcp), Arc::default())
    }

    fn at(udp: UdpSocket, tcp: Arc<TcpListener>, zone: Arc<Zone>) -> Self {
        let address = udp.local_addr().unwrap();
        let serving = tokio::spawn(serve(udp, Arc::clone(&tcp), Arc::clone(&zone))).abort_handle();
        Self { address, tcp, zone, serving }
    }

    /// Dies, and comes back with the same records where it was when `again` is called.
    pub fn kill(self) -> Killed {
        self.serving.abort();
        Killed { tcp: Arc::clone(&self.tcp), zone: Arc::clone(&self.zone) }
    }

    /// Puts these records in place of what was there of their name and type.
    pub async fn set(&self, owner: &str, kind: RecordType, ttl: u32, data: impl IntoIterator<Item = RData>) {
        let records: Vec<_> = data.into_iter().map(|data| Record::from_rdata(name(owner), ttl, data)).collect();
        let key = key(&name(owner), kind);
        let mut zone = self.zone.lock().unwrap();
        match records.is_empty() {
            true => _ = zone.remove(&key),
            false => _ = zone.insert(key, records),
        }
    }

    pub async fn a(&self, owner: &str, addresses: impl IntoIterator<Item = [u8; 4]>) {
        self.set(owner, RecordType::A, 0, addresses.into_iter().map(a)).await;
    }

    pub async fn srv(&self, owner: &str, services: impl IntoIterator<Item = (u16, u16, u16, &str)>) {
        let service = |(priority, weight, port, target)| RData::SRV(SRV::new(priority, weight, port, name(target)));
        self.set(owner, RecordType::SRV, 0, services.into_iter().map(service)).await;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Where a name server was, and what it knew.
pub struct Killed {
    /// Kept, so that no client is given its port meanwhile.
    tcp: Arc<TcpListener>,
    zone: Arc<Zone>,
}

impl Killed {
    pub async fn again(self) -> NameServer {
        let address = self.tcp.local_addr().unwrap();
        for _ in 0..400 {
            if let Ok(udp) = UdpSocket::bind(address).await {
                return NameServer::at(udp, self.tcp, self.zone);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{address} is not free");
    }
}

/// Both on one port.
async fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

async fn serve(udp: UdpSocket, tcp: Arc<TcpListener>, zone: Arc<Zone>) {
    let (mut buffer, mut connections) = ([0; 4096], JoinSet::new());
    loop {
        tokio::select! {
            asked = udp.recv_from(&mut buffer) => {
                let Ok((length, from)) = asked else { continue };
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = answer(&question, &zone);
                let mut bytes = answer.to_vec().unwrap();
                if bytes.len() > usize::from(question.max_payload()) {
                    bytes = answer.truncate().to_vec().unwrap();
                }
                _ = udp.send_to(&bytes, from).await;
            }
            accepted = tcp.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, Arc::clone(&zone)));
                }
            }
        }
    }
}

/// Over TCP a message has its length before it (RFC 1035 §4.2.2).
async fn converse(mut stream: TcpStream, zone: Arc<Zone>) {
    while let Ok(length) = stream.read_u16().await {
        let mut bytes = vec![0; length.into()];
        if stream.read_exact(&mut bytes).await.is_err() {
            return;
        }
        let bytes = answer(&Message::from_vec(&bytes).unwrap(), &zone).to_vec().unwrap();
        let whole = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
        if stream.write_all(&whole).await.is_err() {
            return;
        }
    }
}

fn answer(question: &Message, zone: &Zone) -> Message {
    let query = question.queries[0].clone();
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata.authoritative = true;
    message.add_query(query.clone());
    let zone = zone.lock().unwrap();
    let mut owner = query.name().clone();
    // An alias leads on.
    while let Some([alias]) = zone.get(&key(&owner, RecordType::CNAME)).map(Vec::as_slice) {
        message.add_answer(alias.clone());
        let RData::CNAME(target) = &alias.data else { break };
        owner = target.0.clone();
    }
    match zone.get(&key(&owner, query.query_type())) {
        Some(records) => _ = message.add_answers(records.iter().cloned()),
        None => {
            let soa = SOA::new(name("ns.test."), name("admin.test."), 1, 60, 60, 60, 1);
            message.add_authority(Record::from_rdata(name("test."), 60, RData::SOA(soa)));
            let (owner, _) = key(&owner, RecordType::A);
            if !zone.keys().any(|(other, _)| *other == owner) {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
        }
    }
    message
}

fn key(owner: &Name, kind: RecordType) -> (String, RecordType) {
    (owner.to_lowercase().to_string(), kind)
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub fn a(address: [u8; 4]) -> RData {
    RData::A(A(Ipv4Addr::from(address)))
}
