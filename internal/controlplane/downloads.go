package controlplane

import (
	"encoding/json"
	"net/http"

	"drover/internal/iot"
	"drover/internal/wire"
)

// ServeDownloads answers what devices have fetched for the job {jobId} of the path from the
// object store in the box. What was fetched in the last second may be missing:
//
//	{"bytes":1048576,"requests":12,"refused":0,"devicesStarted":10,"devicesCompleted":9}
//
// It is an operation of drover's own. The caller must have checked the signature.
func (s *Server) ServeDownloads(w http.ResponseWriter, r *http.Request) {
	d, err := s.jobs.Downloads(r.Context(), iot.JobID(r.PathValue("jobId")))
	if err != nil {
		answer := s.mapError(err)
		if answer == nil {
			s.log.ErrorContext(r.Context(), "downloads could not be read", "err", err)
			answer = s.service.NewError(internalFailure, "An internal failure occurred")
		}
		wire.WriteError(w, answer)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	err = json.NewEncoder(w).Encode(struct {
		Bytes            int64 `json:"bytes"`
		Requests         int64 `json:"requests"`
		Refused          int64 `json:"refused"`
		DevicesStarted   int64 `json:"devicesStarted"`
		DevicesCompleted int64 `json:"devicesCompleted"`
	}{d.Bytes, d.Requests, d.Refused, d.Started, d.Completed})
	if err != nil {
		s.log.DebugContext(r.Context(), "downloads not delivered", "err", err)
	}
}
