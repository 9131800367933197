//! Servers over TLS, with a trusted certificate and without.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::{Orch, Reply, RunOutput, Server};

/// A server with TLS in front of `plain`, its address, and its self-signed certificate in PEM: either a server's
/// certificate or that of an authority, which `openssl req -x509` creates.
fn tls_server(plain: &Server, name: &str, authority: bool) -> (tokio::runtime::Runtime, SocketAddr, String) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
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
                // A client that does not trust the certificate closes the connection.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(behind).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut stream, &mut plain).await);
            });
        }
    });
    (runtime, address, cert.pem())
}

/// A project with one step, whose provider uses TLS.
fn project(address: SocketAddr) -> Orch {
    let orch = Orch::empty();
    orch.write("orch.yaml", &format!("providers:\n  lab: {{ dialect: openai, base_url: \"https://{address}/v1\" }}\n"));
    orch.write("prompts/p.md", "p");
    orch.write(
        "pipelines/main.yaml",
        "name: one\ninputs: { task: { type: string } }\nagents: { a: { model: lab/m } }\nsteps:\n  - { id: say, agent: a, prompt: p.md, schema: any, output: said, retry: { max: 1 } }\n",
    );
    orch
}

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];

/// Runs the project with a variable set to a path in its folder.
fn run(orch: &Orch, variable: &str, path: &str) -> RunOutput {
    RunOutput::of(&orch.command(&RUN).env(variable, orch.path().join(path)).output().unwrap())
}

#[test]
fn a_server_with_a_named_certificate_is_trusted() {
    for authority in [false, true] {
        let plain = Server::saying("{\"ok\": true}");
        let (_runtime, address, certificate) = tls_server(&plain, "127.0.0.1", authority);
        let orch = project(address);
        orch.write("certificates/a.pem", &certificate).write("certificates/README", "no certificate");
        run(&orch, "SSL_CERT_FILE", "certificates/a.pem").exits(0);
        assert_eq!(orch.json("workspace/said.json")["ok"], true);
        run(&orch, "SSL_CERT_DIR", "certificates").exits(0);
        assert_eq!(plain.requests().len(), 2);

        let ran = orch.run(&RUN).exits(1).says("its certificate is not trusted");
        assert!(ran.stderr.contains("SSL_CERT_FILE") && !ran.stderr.contains("OtherError"), "{}", ran.stderr);
        assert_eq!(plain.requests().len(), 2);
    }
}

#[test]
fn a_named_certificate_is_trusted_only_for_its_own_name() {
    for authority in [false, true] {
        let plain = Server::saying("{\"ok\": true}");
        let (_runtime, address, certificate) = tls_server(&plain, "other.example", authority);
        let orch = project(address);
        orch.write("own.pem", &certificate);
        run(&orch, "SSL_CERT_FILE", "own.pem").exits(1).says("its certificate is not trusted");
        assert!(plain.requests().is_empty());
    }
}

#[test]
fn another_authority_with_the_same_name_is_not_trusted() {
    let plain = Server::saying("{\"ok\": true}");
    let (_runtime, address, _) = tls_server(&plain, "127.0.0.1", true);
    let (_other, _, certificate) = tls_server(&plain, "127.0.0.1", true);
    let orch = project(address);
    orch.write("other.pem", &certificate);
    run(&orch, "SSL_CERT_FILE", "other.pem").exits(1).says("its certificate is not trusted: it is self-signed");
    assert!(plain.requests().is_empty());
}

#[test]
fn missing_certificate_files_are_named() {
    let orch = project("127.0.0.1:9".parse().unwrap());
    orch.write("text.pem", "no certificate").write("empty/README", "none");
    let pem = |inside: &str| format!("-----BEGIN CERTIFICATE-----\n{inside}\n-----END CERTIFICATE-----\n");
    orch.write("junk.pem", &pem("nope")).write("damaged.pem", &pem("####"));
    for (variable, path, words) in [
        ("SSL_CERT_FILE", "missing.pem", "which can't be read"),
        ("SSL_CERT_FILE", "text.pem", "which holds no certificate in PEM"),
        ("SSL_CERT_FILE", "junk.pem", "whose certificates can't be read"),
        ("SSL_CERT_FILE", "damaged.pem", "whose certificates can't be read"),
        ("SSL_CERT_DIR", "missing", "which can't be read"),
    ] {
        let ran = run(&orch, variable, path).exits(1).says(words);
        let named = format!("{variable} names `{}`", orch.path().join(path).display());
        assert!(ran.stderr.contains(&named) && ran.stderr.contains("unset it"), "{}", ran.stderr);
    }
    run(&orch, "SSL_CERT_DIR", "empty").exits(1).says("they hold no certificate in PEM");
}

#[test]
fn doctor_says_why_a_tls_server_is_not_trusted() {
    let plain = Server::start(|_| Reply::status(200, r#"{"data":[{"id":"qwen3"}]}"#));
    let (_runtime, address, certificate) = tls_server(&plain, "127.0.0.1", true);
    let orch = project(address);
    let ran = orch.run(&["doctor"]).exits(0);
    assert!(ran.stdout.contains("its certificate is not trusted") && ran.stdout.contains("SSL_CERT_FILE"), "{ran:?}");
    orch.write("own.pem", &certificate);
    let mut doctor = orch.command(&["doctor"]);
    let ran = RunOutput::of(&doctor.env("SSL_CERT_FILE", orch.path().join("own.pem")).output().unwrap());
    assert!(ran.stdout.contains(&format!("https://{address}/v1 answers with qwen3")), "{ran:?}");
}

#[test]
fn a_wrong_scheme_in_an_address_is_named() {
    let plain = Server::saying("{\"ok\": true}");
    let (_runtime, address, _) = tls_server(&plain, "127.0.0.1", true);
    let orch = project(address);
    orch.edit("orch.yaml", "https://", "http://");
    orch.run(&RUN).exits(1).says("if the server expects TLS, write `https://` in its base URL");
    let port: SocketAddr = plain.url().trim_start_matches("http://").parse().unwrap();
    project(port).run(&RUN).exits(1).says("a server without TLS has an address with `http://`");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    let answers = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Waits until the client closes the connection.
        drop(client.read_to_end(&mut Vec::new()));
    });
    project(port).run(&RUN).exits(1).says("the server at this address does not speak TLS");
    answers.join().unwrap();
    assert!(plain.requests().is_empty());
}
