package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// listenPProf opens the address of --pprof, if there is one. Profiles show what the memory holds, and
// nobody is asked who he is.
func (s *server) listenPProf() error {
	if s.cfg.PProf == "" {
		return nil
	}
	l, err := net.Listen("tcp", s.cfg.PProf)
	if err != nil {
		return fmt.Errorf("--pprof: %w", err)
	}
	s.listeners = append(s.listeners, l)
	s.endpoints.PProf = "http://" + l.Addr().String() + "/debug/pprof/"
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s.pprof = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.run(l.Addr(), func() error { return s.pprof.Serve(l) })
	return nil
}
