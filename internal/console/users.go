package console

import (
	"errors"
	"html/template"
	"net/http"

	"drover/internal/auth"
	"drover/internal/iot"
)

// account shows users what is theirs. Owners of keys have no account.
func (r *request) account() error {
	if !r.session.User {
		return r.nowhere()
	}
	return r.accountPage(http.StatusOK, nil)
}

// accountPage shows the account, with what there is more to show.
func (r *request) accountPage(status int, more map[string]any) error {
	data := map[string]any{"Name": r.session.Name, "TOTP": r.Users.NeedsCode(r.session.Who)}
	if role, ok := auth.RoleNamed(r.Users.Role(r.session.Who)); ok {
		data["Role"] = role
	}
	for k, v := range more {
		data[k] = v
	}
	return r.render(status, "account", "Your account", data)
}

// offered is a key of one-time codes that somebody is about to give to his authenticator.
type offered struct {
	Key  []byte
	Who  string
	Ends iot.Time
}

func (r *request) changeAccount() error {
	if !r.session.User {
		return r.nowhere()
	}
	do, who := r.FormValue("do"), r.session.Who
	if do == "confirm" {
		return r.confirmCodes()
	}
	source, _ := r.source()
	if !r.Failures.May(auth.BySignature, source, "") {
		return r.accountPage(http.StatusTooManyRequests, map[string]any{"Error": "Too many attempts from your address have failed. Wait a few seconds."})
	}
	err := r.Users.CheckPassword(r.Context(), who, r.FormValue("password"))
	if errors.Is(err, auth.ErrPassword) {
		r.Failures.Failed(auth.BySignature, source)
		return r.accountPage(http.StatusForbidden, map[string]any{"Error": "This is not your password."})
	}
	if err != nil {
		return err
	}
	actor := auth.Principal{User: who}.Actor()
	switch do {
	case "on":
		key, err := r.sealer.seal(asOffer, offered{auth.NewTOTP(), who, r.now().Add(halfLife)})
		if err != nil {
			return err
		}
		return r.offer(http.StatusOK, key, "")
	case "off":
		if err := r.Users.SetTOTP(r.Context(), who, nil, actor); err != nil {
			return err
		}
		r.notify("Codes are off: your password alone is enough to sign in.")
	case "password":
		if r.FormValue("new") != r.FormValue("again") {
			return r.accountPage(http.StatusBadRequest, map[string]any{"Error": "The two new passwords are not the same."})
		}
		if err := r.Users.SetPassword(r.Context(), who, r.FormValue("new"), actor); err != nil {
			if text, ok := told(err); ok {
				return r.accountPage(http.StatusBadRequest, map[string]any{"Error": text})
			}
			return err
		}
		if err := r.keep(session{Who: who, User: true}); err != nil {
			return err
		}
		r.notify("Your password was changed.")
	default:
		return iot.Errorf(iot.InvalidRequest, "There is nothing to be done like that.")
	}
	return r.redirect(Account)
}

// offer shows a new key of codes.
func (r *request) offer(status int, sealed, why string) error {
	var o offered
	if !r.sealer.open(asOffer, sealed, &o) || o.Who != r.session.Who || r.now() >= o.Ends {
		return r.accountPage(http.StatusBadRequest, map[string]any{"Error": "That took too long. Set codes up again."})
	}
	return r.accountPage(status, map[string]any{"Key": sealed, "Secret": auth.TOTPSecret(o.Key),
		"URL": template.URL(auth.TOTPURL(o.Key, o.Who)), "Error": why})
}

// confirmCodes switches codes on once a code shows that the authenticator has the key.
func (r *request) confirmCodes() error {
	var o offered
	sealed := r.FormValue("key")
	if !r.sealer.open(asOffer, sealed, &o) || o.Who != r.session.Who || r.now() >= o.Ends {
		return r.offer(http.StatusBadRequest, sealed, "")
	}
	err := r.Users.ConfirmTOTP(r.Context(), o.Who, o.Key, r.FormValue("code"), auth.Principal{User: o.Who}.Actor())
	if errors.Is(err, auth.ErrCode) {
		return r.offer(http.StatusBadRequest, sealed, "This code is not right. Is the clock of your authenticator?")
	}
	if err != nil {
		return err
	}
	r.notify("Codes are on: from now on you need one to sign in.")
	return r.redirect(Account)
}
