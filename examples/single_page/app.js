// Logs its users in with OpenID Connect: the code flow with PKCE, as a public client (RFC 9700, section 2.1).
//
// Tokens live in this page's memory alone and go with it. What has to outlast the way to Authly and back is in
// sessionStorage: it is of use to nobody who has not this tab.

const settings = await (await fetch("settings.json")).json();
const here = location.origin + location.pathname;
const show = (text) => { document.querySelector("#status").textContent = text; };
const signInButton = document.querySelector("#sign-in");
const signOutButton = document.querySelector("#sign-out");

function base64url(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

async function askJson(url, options) {
  const answer = await fetch(url, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error_description ?? answer.statusText);
  return content;
}

async function signIn(server) {
  const pending = { state: random(), nonce: random(), verifier: random() };
  sessionStorage.setItem("pending", JSON.stringify(pending));
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(pending.verifier));
  location.assign(`${server.authorization_endpoint}?${new URLSearchParams({
    response_type: "code",
    client_id: settings.client_id,
    redirect_uri: here,
    scope: "openid profile",
    state: pending.state,
    nonce: pending.nonce,
    code_challenge: base64url(challenge),
    code_challenge_method: "S256",
  })}`);
}

// Returns what the ID token says. It came straight from the token endpoint, whose TLS stands for its signature
// (OpenID Connect Core 1.0, section 3.1.3.7); everything else is checked.
function checkIdToken(token, nonce) {
  const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (byte) => byte.charCodeAt(0))));
  if (claims.iss !== settings.issuer) throw new Error("The ID token is of another issuer.");
  if (claims.aud !== settings.client_id) throw new Error("The ID token is for another client.");
  if (claims.nonce !== nonce) throw new Error("The ID token answers another request.");
  if (claims.exp * 1000 < Date.now()) throw new Error("The ID token has expired.");
  return claims;
}

async function receive(server, answer) {
  const pending = JSON.parse(sessionStorage.getItem("pending") ?? "{}");
  sessionStorage.removeItem("pending");
  // The code is of use to nobody who sees this address later, in the history, say.
  history.replaceState(null, "", here);
  if (!pending.state || answer.get("state") !== pending.state) throw new Error("Nobody asked for this answer here.");
  if (answer.get("iss") !== settings.issuer) throw new Error("The answer is of another server.");
  if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error"));
  const tokens = await askJson(server.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      client_id: settings.client_id,
      code: answer.get("code"),
      redirect_uri: here,
      code_verifier: pending.verifier,
    }),
  });
  const claims = checkIdToken(tokens.id_token, pending.nonce);
  const user = await askJson(server.userinfo_endpoint, { headers: { authorization: `Bearer ${tokens.access_token}` } });
  if (user.sub !== claims.sub) throw new Error("Userinfo is about somebody else.");
  return { user, idToken: tokens.id_token };
}

try {
  const server = await askJson(`${settings.issuer}/.well-known/openid-configuration`);
  const answer = new URLSearchParams(location.search);
  if (answer.has("state")) {
    const { user, idToken } = await receive(server, answer);
    show(`You are ${user.name ?? user.preferred_username}.`);
    signOutButton.hidden = false;
    signOutButton.addEventListener("click", () => location.assign(
      `${server.end_session_endpoint}?${new URLSearchParams({ id_token_hint: idToken, post_logout_redirect_uri: here })}`,
    ));
  } else {
    show("You are not signed in.");
    signInButton.hidden = false;
    signInButton.addEventListener("click", () => signIn(server));
  }
} catch (error) {
  show(`That did not work: ${error.message}`);
  signInButton.hidden = false;
  signInButton.addEventListener("click", () => location.assign(here));
}
