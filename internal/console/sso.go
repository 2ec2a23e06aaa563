package console

import (
	"errors"
	"net/http"
	"time"

	"drover/internal/sso"
)

// Sign-in at a provider of identities. What must be remembered meanwhile is in a cookie, sealed, so that the browser that
// comes back is the one that went, to whatever node.

const (
	flowName = "drover_flow"
	flowLife = 10 * time.Minute
)

type flow struct {
	sso.Flow
	Next string
}

// beginSSO sends the browser to the provider.
func (r *request) beginSSO() error {
	if r.SSO == nil {
		return r.nowhere()
	}
	to, f, err := r.SSO.Begin(r.Context(), r.callback())
	if err != nil {
		return r.ssoFailed(err)
	}
	text, err := r.sealer.seal(asFlow, flow{f, local(r.FormValue("next"))})
	if err != nil {
		return err
	}
	r.setCookie(flowName, text, flowLife)
	return r.redirect(to)
}

// callback is where the provider is to send the browser to: this server as the browser calls it, unless it was said otherwise.
func (r *request) callback() string {
	if r.PublicURL != "" {
		return r.PublicURL + SSOCallback
	}
	scheme := "http"
	if _, secure := r.source(); secure {
		scheme = "https"
	}
	return scheme + "://" + r.Host + SSOCallback
}

// finishSSO signs in who comes back from the provider.
func (r *request) finishSSO() error {
	if r.SSO == nil {
		return r.nowhere()
	}
	var f flow
	if cookie, err := r.Cookie(flowName); err == nil && !r.sealer.open(asFlow, cookie.Value, &f) {
		f = flow{}
	}
	r.setCookie(flowName, "", -time.Second)
	who, err := r.SSO.Finish(r.Context(), f.Flow, r.URL.Query())
	if refused, ok := errors.AsType[*sso.Refusal](err); ok {
		r.log.InfoContext(r.Context(), "sign-in refused", "provider", r.SSO.Name(), "subject", who.Subject, "name", who.Name, "why", refused.Why)
		return r.signInForm(http.StatusForbidden, map[string]any{"Next": f.Next, "Error": refused.Why})
	}
	if err != nil {
		return r.ssoFailed(err)
	}
	s := session{Who: who.Subject, Person: &who}
	if err := r.keep(s); err != nil {
		return err
	}
	r.identify(s)
	return r.redirect(local(f.Next))
}

// ssoFailed tells that the provider is no help at the moment. There are other ways to sign in.
func (r *request) ssoFailed(err error) error {
	r.log.ErrorContext(r.Context(), "sign-in at the provider failed", "provider", r.SSO.Name(), "err", err)
	return r.signInForm(http.StatusBadGateway, map[string]any{"Next": r.FormValue("next"), "Error": "This server cannot talk to " + r.SSO.Name() + " at the moment. Its log says why."})
}
