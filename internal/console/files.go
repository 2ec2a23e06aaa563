package console

import (
	"encoding/xml"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"drover/internal/iot"
)

// The files that jobs point at. Pages speak S3's protocol with the object store of this server, as any
// client does, and so ask for the same permissions.

// bucket and object are as S3 lists them.
type bucket struct {
	Name    string    `xml:"Name"`
	Created time.Time `xml:"CreationDate"`
}

type object struct {
	Key      string    `xml:"Key"`
	Size     int64     `xml:"Size"`
	Modified time.Time `xml:"LastModified"`
}

// Name is the last part of the key.
func (o object) Name() string { return path.Base(o.Key) }

// inStore sends a request to the object store and decodes its answer into out unless that is nil.
func (r *request) inStore(method, bucket, key string, query url.Values, out any) error {
	if !r.Files {
		return iot.Errorf(iot.NotFound, "This server keeps no files (--no-objects).")
	}
	rq, err := r.s3(r.Context(), method, bucket, key, query, nil)
	if err != nil {
		return err
	}
	text, err := r.ask(rq)
	if err != nil || out == nil {
		return err
	}
	return xml.Unmarshal(text, out)
}

// files lists the buckets.
func (r *request) files() error { return r.showBuckets(http.StatusOK, nil) }

func (r *request) showBuckets(status int, data map[string]any) error {
	var out struct {
		Buckets []bucket `xml:"Buckets>Bucket"`
	}
	if err := r.inStore(http.MethodGet, "", "", nil, &out); err != nil {
		return err
	}
	if data == nil {
		data = map[string]any{}
	}
	data["Buckets"] = out.Buckets
	return r.render(status, "files", "Files", data)
}

func (r *request) createBucket() error {
	name := strings.TrimSpace(r.FormValue("name"))
	if err := r.inStore(http.MethodPut, name, "", nil, nil); err != nil {
		text, ok := told(err)
		if !ok {
			return err
		}
		return r.showBuckets(http.StatusBadRequest, map[string]any{"Name": name, "Error": text})
	}
	return r.redirect(Path + "files/" + url.PathEscape(name))
}

// bucket lists what is in a bucket below a prefix, like a folder.
func (r *request) bucket() error { return r.showBucket(http.StatusOK, "") }

func (r *request) showBucket(status int, problem string) error {
	name, prefix := r.PathValue("bucket"), r.URL.Query().Get("prefix")
	query := url.Values{"list-type": {"2"}, "delimiter": {"/"}, "prefix": {prefix}, "max-keys": {"100"}}
	if after := r.URL.Query().Get("after"); after != "" {
		query.Set("continuation-token", after)
	}
	var out struct {
		Contents []object `xml:"Contents"`
		Folders  []string `xml:"CommonPrefixes>Prefix"`
		Next     string   `xml:"NextContinuationToken"`
	}
	if err := r.inStore(http.MethodGet, name, "", query, &out); err != nil {
		return err
	}
	return r.render(status, "bucket", name, map[string]any{"Bucket": name, "Prefix": prefix, "Above": above(prefix), "Objects": out.Contents, "Folders": out.Folders,
		"Next": out.Next, "First": query.Get("continuation-token") == "", "Error": problem})
}

// above are the folders above a prefix, and it itself.
func above(prefix string) (folders []link) {
	at := ""
	for part := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		if part == "" {
			continue
		}
		at += part + "/"
		folders = append(folders, link{part, at})
	}
	return folders
}

// download sends an object to the browser, which keeps it as a file whatever is in it.
func (r *request) download() error {
	if !r.Files {
		return r.nowhere()
	}
	key := r.PathValue("key")
	rq, err := r.s3(r.Context(), http.MethodGet, r.PathValue("bucket"), key, nil, nil)
	if err != nil {
		return err
	}
	for _, header := range []string{"Range", "If-None-Match", "If-Modified-Since", "If-Range"} {
		if v := r.Header.Get(header); v != "" {
			rq.Header.Set(header, v)
		}
	}
	r.dress(rq)
	r.API.ServeHTTP(&attachment{ResponseWriter: r.w, name: path.Base(key)}, rq)
	return nil
}

// attachment has an answer saved under a name.
type attachment struct {
	http.ResponseWriter
	name string
}

func (a *attachment) WriteHeader(status int) {
	if status < 300 {
		a.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.name}))
	}
	a.ResponseWriter.WriteHeader(status)
}

// ReadFrom lets files go from the disk to the socket as they would without a console.
func (a *attachment) ReadFrom(src io.Reader) (int64, error) { return io.Copy(a.ResponseWriter, src) }

// Unwrap is for http.ResponseController.
func (a *attachment) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// put stores the body as an object. Pages with JavaScript upload this way, to show how far they are.
func (r *request) put() error {
	if !r.Files {
		return r.nowhere()
	}
	err := r.store(r.PathValue("bucket"), r.PathValue("key"), r.Header.Get("Content-Type"), r.Body, r.ContentLength)
	text, ok := told(err)
	switch {
	case err == nil:
		r.w.WriteHeader(http.StatusNoContent)
		return nil
	case ok:
		http.Error(r.w, text, http.StatusBadRequest)
		return nil
	}
	return err
}

func (r *request) store(bucket, key, kind string, body io.Reader, length int64) error {
	rq, err := r.s3(r.Context(), http.MethodPut, bucket, key, nil, body)
	if err != nil {
		return err
	}
	rq.ContentLength = length
	if kind != "" {
		rq.Header.Set("Content-Type", kind)
	}
	_, err = r.ask(rq)
	return err
}

// upload stores the file of a form. The form says nothing of the file's length, which is at most that
// of the form.
func (r *request) upload() error {
	if !r.Files {
		return r.nowhere()
	}
	form, err := r.MultipartReader()
	if err != nil {
		return iot.Errorf(iot.InvalidRequest, "This is no form with a file.")
	}
	bucket := r.PathValue("bucket")
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return r.showBucket(http.StatusBadRequest, "Choose a file.")
		}
		if err != nil {
			return iot.Errorf(iot.InvalidRequest, "The form broke off: %v", err)
		}
		if part.FormName() != "file" || part.FileName() == "" {
			continue
		}
		prefix := r.URL.Query().Get("prefix")
		if err := r.store(bucket, prefix+part.FileName(), part.Header.Get("Content-Type"), part, r.ContentLength); err != nil {
			text, ok := told(err)
			if !ok {
				return err
			}
			return r.showBucket(http.StatusBadRequest, text)
		}
		r.notify("%s was uploaded.", part.FileName())
		return r.redirect(Path + "files/" + url.PathEscape(bucket) + "?prefix=" + url.QueryEscape(prefix))
	}
}

// fileAction asks whether an object or an empty bucket is to be deleted.
func (r *request) fileAction() error {
	bucket, key := r.PathValue("bucket"), r.FormValue("key")
	back := Path + "files/" + url.PathEscape(bucket)
	c := confirmation{Title: "Delete this bucket?", What: bucket, Text: "A bucket that has files is not deleted.", Verb: "Delete", Back: back}
	if key != "" {
		c = confirmation{Title: "Delete this file?", What: key, Text: "Jobs that point at it fail on devices that have not fetched it yet.", Verb: "Delete", Back: back + "?prefix=" + url.QueryEscape(folder(key)), Hidden: [][2]string{{"key", key}}}
	}
	return r.confirm(c)
}

func (r *request) deleteFile() error {
	bucket, key := r.PathValue("bucket"), r.FormValue("key")
	if err := r.inStore(http.MethodDelete, bucket, key, nil, nil); err != nil {
		return err
	}
	if key == "" {
		r.notify("The bucket %s was deleted.", bucket)
		return r.redirect(Path + "files")
	}
	r.notify("%s was deleted.", key)
	return r.redirect(Path + "files/" + url.PathEscape(bucket) + "?prefix=" + url.QueryEscape(folder(key)))
}

// folder is the part of a key before its last name.
func folder(key string) string { return key[:strings.LastIndexByte(key, '/')+1] }
