// A real OpenID provider on the loopback address. Its one argument is JSON:
//   clients           client metadata as in dynamic registration
//   access_token_ttl  seconds
//   pkce_required     whether a request without a code challenge is refused
//   resources         the APIs that access tokens can be for (RFC 8707)
//   key, cert         PEM files, for https
// It prints {"issuer": …} when it is ready, and ends when its standard input does.
//
// POST /admin/end-user?client_id=…&sub=… sends the client a logout token for all sessions of a user, as the
// console of an administrator does elsewhere. The response is {"status": …}: that of the client,
// or 0 if there is none within 20 seconds.
import { Console } from 'node:console';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import { Provider, errors } from 'oidc-provider';

globalThis.console = new Console(process.stderr, process.stderr); // standard output is for the one line

const settings = JSON.parse(process.argv[2]);

function signingKey(alg, type, options) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-${randomBytes(4).toString('hex')}` };
}

function findAccount(ctx, login) {
  const email = login.includes('@') ? login : `${login}@example.com`;
  return {
    accountId: login,
    claims: () => ({ sub: login, name: login, preferred_username: login, email, email_verified: true }),
  };
}

const configuration = {
  clients: settings.clients,
  findAccount,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
  scopes: ['openid', 'offline_access'],
  jwks: {
    keys: [
      signingKey('RS256', 'rsa', { modulusLength: 2048 }),
      signingKey('ES256', 'ec', { namedCurve: 'P-256' }),
    ],
  },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  pkce: { required: () => settings.pkce_required },
  // Refresh tokens for every client that may have them, each good once: a second use ends the grant.
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: () => true,
  ttl: { AccessToken: settings.access_token_ttl, IdToken: 3600, RefreshToken: 86400, Session: 86400, Grant: 86400, Interaction: 3600 },
  // The sites of the tests are on the loopback network, from which the provider's own dispatcher protects. Its
  // own limit of 2.5 seconds is too short for a busy machine.
  fetch: (url, { dispatcher, signal, ...options }) => globalThis.fetch(url, { ...options, signal: AbortSignal.timeout(20_000) }),
  features: {
    backchannelLogout: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true }, // pages with a form that take any login
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => {
        if (!settings.resources.includes(resource)) throw new errors.InvalidTarget();
        return { audience: resource, scope: 'read', accessTokenFormat: 'jwt' };
      },
    },
    rpInitiatedLogout: { enabled: true },
    userinfo: { enabled: true },
  },
};

async function endUser(provider, { client_id: clientId, sub }) {
  const client = await provider.Client.find(clientId);
  const required = client.backchannelLogoutSessionRequired;
  client.backchannelLogoutSessionRequired = false; // without a sid, the token is for all sessions
  try {
    await client.backchannelLogout(sub);
    return 200;
  } catch (error) {
    console.error(error);
    return error.response?.status ?? 0;
  } finally {
    client.backchannelLogoutSessionRequired = required;
  }
}

const server = settings.key
  ? https.createServer({ key: readFileSync(settings.key), cert: readFileSync(settings.cert) })
  : http.createServer();

server.listen(0, '127.0.0.1', () => {
  const issuer = `${settings.key ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  provider.on('backchannel.error', (ctx, error) => console.error(`backchannel: ${error.message} ${error.response?.status ?? 0}`));
  provider.use(async (ctx, next) => {
    if (ctx.method === 'POST' && ctx.path === '/admin/end-user') {
      ctx.body = { status: await endUser(provider, ctx.query) };
      return;
    }
    await next();
    // The form pages ask for a font from elsewhere; it is not available here.
    if (ctx.path.startsWith('/interaction/')) {
      ctx.set('Content-Security-Policy', "default-src 'none'; style-src 'unsafe-inline'");
    }
  });
  server.on('request', provider.callback());
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});

process.stdin.on('end', () => process.exit()).resume();
