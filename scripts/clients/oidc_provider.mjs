// A provider of OpenID Connect on a port of its own, whose people are the names in PEOPLE: {"name": ["group", …]}.
// It prints its issuer, and runs until its standard input ends. With GROUPS=userinfo groups are told to who asks for
// them only, and otherwise in the ID token, in realm_access.roles as well.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const modules = createRequire(process.env.NODE_PATH + '/');
const { Provider } = await import(pathToFileURL(modules.resolve('oidc-provider')).href);
const people = JSON.parse(process.env.PEOPLE);

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'drover',
    client_secret: 'between provider and drover',
    application_type: 'native', // of loopback any port is right
    redirect_uris: ['http://127.0.0.1/console/sign-in/callback'],
  }],
  claims: { openid: ['sub', 'preferred_username', 'groups', 'realm_access'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  cookies: { keys: ['only for tests'] },
  ttl: { IdToken: Number(process.env.LIFE ?? 3600) },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims(use) {
      const groups = process.env.GROUPS === 'userinfo' && use === 'id_token' ? undefined : people[id];
      return { sub: id, preferred_username: id, groups, realm_access: { roles: groups } };
    },
  }),
});
provider.on('server_error', (ctx, err) => console.error(err));
server.on('request', provider.callback());
console.log(issuer);
process.stdin.resume().on('end', () => process.exit(0));
