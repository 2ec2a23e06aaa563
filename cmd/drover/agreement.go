package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"drover/internal/auth"
	"drover/internal/store"
)

// agreement is what servers on one database must have in common: names of resources are made of the one
// half, and what one has sealed or signed another must open or believe.
type agreement struct {
	Account string `json:"account"`
	Region  string `json:"region"`
	Key     string `json:"key"`  // id of the key of the folder
	Seal    string `json:"seal"` // a digest of the key that seals secrets
}

// agree fails if this server is not as those that are on the database already. One that is alone may
// be as it likes.
func (s *server) agree(ctx context.Context) error {
	seal, err := auth.LoadOrCreateSeal(s.cfg.sealFile())
	if err != nil {
		return err
	}
	digest := sha256.Sum256(append([]byte("drover agreement "), seal...))
	own := agreement{s.cfg.Account, s.cfg.Region, s.key.AccessKeyID, hex.EncodeToString(digest[:8])}
	return s.store.Update(ctx, func(tx store.Tx) error {
		nodes, err := tx.Nodes()
		if err != nil {
			return err
		}
		var others []string
		for _, n := range nodes {
			if n.ID != s.store.Node() && n.ID != store.FirstNode && !n.Dead { // the first stands for stores without nodes
				others = append(others, fmt.Sprintf("%s (%d)", n.Name, n.ID))
			}
		}
		said, err := tx.Agreement()
		if err == nil && len(others) > 0 {
			var theirs agreement
			if err := json.Unmarshal([]byte(said), &theirs); err != nil {
				return fmt.Errorf("what the other servers on this database have in common: %w", err)
			}
			if differences := own.differences(theirs); len(differences) > 0 {
				return fmt.Errorf("this server cannot work on one database with %s: %s", strings.Join(others, ", "), strings.Join(differences, "; "))
			}
			return nil
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		text, err := json.Marshal(own)
		if err != nil {
			return err
		}
		return tx.SaveAgreement(string(text))
	})
}

func (own agreement) differences(theirs agreement) (list []string) {
	for _, d := range []struct{ name, own, theirs string }{
		{"--account", own.Account, theirs.Account}, {"--region", own.Region, theirs.Region},
		{"the key in credentials", own.Key, theirs.Key},
	} {
		if d.own != d.theirs {
			list = append(list, fmt.Sprintf("%s is %s here and %s there", d.name, d.own, d.theirs))
		}
	}
	if own.Seal != theirs.Seal {
		list = append(list, "secrets.key is another")
	}
	if own.Key != theirs.Key || own.Seal != theirs.Seal {
		list = append(list, "give all the same --keys folder")
	}
	return list
}
