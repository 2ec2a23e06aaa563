package iot

// Download is what one device fetched for one job, from the object store in the box.
type Download struct {
	Job       JobID
	Thing     ThingName // "" if the URL did not say
	Bytes     int64     // sent to it
	Requests  int64     // that were served, in whole or in part, or answered with "not modified"
	Refused   int64     // that were not, because the server had too many downloads
	Completed bool      // the last byte of a file has been sent
}

// Add adds what was fetched later.
func (d *Download) Add(later Download) {
	d.Bytes += later.Bytes
	d.Requests += later.Requests
	d.Refused += later.Refused
	d.Completed = d.Completed || later.Completed
}

// Downloads is what all devices fetched for one job.
type Downloads struct {
	Bytes     int64 // sent
	Requests  int64 // served
	Refused   int64 // refused because the server had too many downloads
	Started   int64 // devices to which something has been sent
	Completed int64 // devices to which the last byte of a file has been sent
}
