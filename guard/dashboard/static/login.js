// The page to sign in with works without this. It keeps the place that a link led to (what stands after the #), and
// spares a browser that has signed in already: on the way from another site it sent no cookie.
document.querySelector("form").action = `login${location.hash}`;
const reply = await fetch("login", { headers: { Accept: "application/json" } });
if ((await reply.json()).signed_in) location.replace(`dashboard${location.hash}`);
