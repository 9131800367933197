//! Servers over TLS, as the program meets them: with a certificate that is trusted, and without.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::{Orch, Server};

/// A server in front of `plain` that speaks TLS; its address and its certificate in PEM.
fn encrypted(plain: &Server) -> (tokio::runtime::Runtime, SocketAddr, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let behind: SocketAddr = plain.url().trim_start_matches("http://").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate goes away.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(behind).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut stream, &mut plain).await);
            });
        }
    });
    (runtime, address, cert.pem())
}

#[test]
fn a_server_over_tls_is_asked_when_its_certificate_is_trusted() {
    let plain = Server::saying("{\"ok\": true}");
    let (_runtime, address, certificate) = encrypted(&plain);
    let orch = Orch::empty();
    orch.write("ca.pem", &certificate);
    orch.write("orch.yaml", &format!("providers:\n  lab: {{ dialect: openai, base_url: \"https://{address}/v1\" }}\n"));
    orch.write("prompts/p.md", "p");
    orch.write(
        "pipelines/main.yaml",
        "name: one\ninputs: { task: { type: string } }\nagents: { a: { model: lab/m } }\nsteps:\n  - { id: say, agent: a, prompt: p.md, schema: any, output: said, retry: { max: 1 } }\n",
    );
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];
    let trusted = orch.command(&args).env("SSL_CERT_FILE", orch.path().join("ca.pem")).output().unwrap();
    assert!(trusted.status.success(), "{}", String::from_utf8_lossy(&trusted.stderr));
    assert_eq!(orch.json("workspace/said.json")["ok"], true);
    assert_eq!(plain.requests().len(), 1);

    let ran = orch.run(&args).exits(1).says("its certificate is not trusted");
    assert!(ran.stderr.contains("SSL_CERT_FILE"), "{}", ran.stderr);
    assert_eq!(plain.requests().len(), 1);
}
