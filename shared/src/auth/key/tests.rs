use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

fn jwk(json: serde_json::Value) -> Result<Algorithm, KeyError> {
    VerifyingKey::from_jwk(&serde_json::from_value(json).unwrap()).map(|key| key.algorithm())
}

#[test]
fn what_a_key_is_fixes_its_algorithm() {
    for (pem, algorithm) in [
        (include_str!("../../../tests/keys/rsa.pub.pem"), Algorithm::Rs256),
        (include_str!("../../../tests/keys/rsa.pkcs1.pub.pem"), Algorithm::Rs256),
        (include_str!("../../../tests/keys/p256.pub.pem"), Algorithm::Es256),
        (include_str!("../../../tests/keys/ed25519.pub.pem"), Algorithm::EdDsa),
    ] {
        assert_eq!(VerifyingKey::from_pem(pem).unwrap().algorithm(), algorithm);
        let in_one_line = pem.replace('\n', "");
        let escaped = pem.replace('\n', "\\n");
        let windows = pem.replace('\n', "\r\n");
        for form in [in_one_line, escaped, windows] {
            assert_eq!(VerifyingKey::from_pem(&form).unwrap().algorithm(), algorithm, "{form}");
        }
    }
}

#[test]
fn what_is_no_strong_public_key_is_refused_with_a_reason() {
    let two = format!(
        "{}{}",
        include_str!("../../../tests/keys/ed25519.pub.pem"),
        include_str!("../../../tests/keys/p256.pub.pem")
    );
    let ed25519 =
        |point: &[u8]| pem("PUBLIC KEY", &[&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], point].concat());
    let mut off_the_curve = BASE64_STANDARD
        .decode(
            include_str!("../../../tests/keys/p256.pub.pem")
                .lines()
                .filter(|line| !line.contains("---"))
                .collect::<String>(),
        )
        .unwrap();
    *off_the_curve.last_mut().unwrap() ^= 1;
    for (text, reason) in [
        (include_str!("../../../tests/keys/rsa-1024.pub.pem"), "at least 2048 bits"),
        (include_str!("../../../tests/keys/p384.pub.pem"), "P-256 is"),
        (include_str!("../../../tests/keys/p256.compressed.pub.pem"), "no uncompressed point"),
        (&pem("PUBLIC KEY", &off_the_curve), "no uncompressed point"),
        (include_str!("../../../tests/keys/rsa.pem"), "is a private key"),
        (include_str!("../../../tests/keys/ed25519.pem"), "is a private key"),
        (include_str!("../../../tests/keys/server.pem"), "is a certificate"),
        (&ed25519(&[0; 32]), "weak"),
        (&ed25519(&edge(0xed, 0xff, 0xff)), "weak"),
        (&ed25519(&[9; 31]), "no readable public key"),
        (&two, "more than one key"),
        (&pem("PUBLIC KEY", b""), "no readable public key"),
        (&pem("RSA PUBLIC KEY", b"\x30\x03\x02\x01\x03"), "no readable RSA key"),
        (&pem("PARROT", b"\x30\x00"), "no public key in PEM"),
        ("-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----", "not base64"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PRIVATE KEY-----", "is not PEM"),
        ("-----BEGIN PUBLIC KEY-----", "is not PEM"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "is not PEM"),
        ("", "is not PEM"),
    ] {
        let error = VerifyingKey::from_pem(text).unwrap_err();
        assert!(error.0.contains(reason), "{error} for {text}");
    }
}

#[test]
fn an_rsa_key_is_sound() {
    let n = |bits: usize| {
        let mut n = vec![0xff; bits / 8];
        n[0] = 0x80;
        n
    };
    for (n, e, reason) in [
        (n(2040), vec![1, 0, 1], "at least 2048"),
        (n(8200), vec![1, 0, 1], "at most 8192"),
        (n(2048), vec![1], "no sound"),
        (n(2048), vec![2], "no sound"),
        (n(2048), vec![], "no sound"),
        (n(2048), vec![1, 0, 0, 0, 1], "no sound"),
        ([n(2048), vec![2]].concat(), vec![1, 0, 1], "no sound"),
        (vec![], vec![1, 0, 1], "at least 2048"),
    ] {
        assert!(rsa(&n, &e).unwrap_err().0.contains(reason), "{reason}");
    }
    assert!(rsa(&[vec![0], n(2048)].concat(), &[0, 1, 0, 1]).is_ok(), "leading zeros are no digits");
}

#[test]
fn a_jwk_is_used_only_for_what_it_is_for() {
    use serde_json::json;
    let point = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let good = json!({ "kty": "OKP", "crv": "Ed25519", "x": point });
    assert_eq!(jwk(good.clone()), Ok(Algorithm::EdDsa));
    let with = |name: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        changed[name] = value;
        jwk(changed)
    };
    for (name, value) in
        [("alg", json!("EdDSA")), ("use", json!("sig")), ("key_ops", json!(["verify"])), ("ext", json!(1))]
    {
        assert_eq!(with(name, value), Ok(Algorithm::EdDsa), "{name}");
    }
    for (name, value) in [
        ("alg", json!("HS256")),
        ("alg", json!("ES256")),
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("kty", json!("RSA")),
        ("kty", json!("EC")),
        ("kty", json!("oct")),
        ("crv", json!("Ed448")),
        ("crv", json!("X25519")),
        ("x", json!("AAAA")),
        ("x", json!("not base64url!")),
        ("x", json!(null)),
        ("d", json!(point)),
        ("k", json!(point)),
    ] {
        assert!(with(name, value.clone()).is_err(), "{name}: {value}");
    }
    let secret = BASE64_URL_SAFE_NO_PAD.encode([7; 32]);
    assert!(jwk(json!({ "kty": "oct", "k": secret, "alg": "HS256" })).is_err());
}

#[test]
fn signatures_of_others_are_understood() {
    let b64 = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let jwk = |json| VerifyingKey::from_jwk(&serde_json::from_value(json).unwrap()).unwrap();
    // RFC 7515 appendices A.1 and A.3, RFC 8037 appendix A.4, and one of openssl's.
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (key, message, signature) in [
        (
            VerifyingKey::from_secret(&b64(
                "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            ))
            .unwrap(),
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{joe}"),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            jwk(serde_json::json!({
                "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            })),
            format!("eyJhbGciOiJFUzI1NiJ9.{joe}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            jwk(serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            })),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
        (
            VerifyingKey::from_pem(include_str!("../../../tests/keys/rsa.pub.pem")).unwrap(),
            "signed by openssl".to_owned(),
            "TPw0QY3d9v61sUu6J1H5-6neEa8C-2cDvxjr2SimMLY68nBw7DDw0HUMAik_0cjPRPUC3ZsJFfA0W3wf6DRNYLqYxW_Q0LPLocSDTm4OhWtHdk3KcT-1UaHSGw3-g2PewCf2duQup0qCgFn0pBRbmyQGbQuKPc89-gn035sTzmetrXq5O8eUUn009IJVoIbfhQqT7svzLgLiBkpkVYHRYiAumJVysZ0TXR9Q-Mf3a_nROuOlANvsBPUT6MRFwf-oQO8_i86uu_p-Qa6SVi69B0s0TzyChkbJad8V4K-MwhfIBDhR2IJ5wfULC8RaIzW1PaBgujp1dmsY7uBDBEzIXg",
        ),
    ] {
        assert!(key.verifies(message.as_bytes(), &b64(signature)), "{key:?}");
        assert!(!key.verifies(format!("{message}x").as_bytes(), &b64(signature)), "{key:?}");
    }
}
