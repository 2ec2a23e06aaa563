// Package console is the web console: pages for people, made by the server, who watch and steer
// jobs and look after things, certificates, policies, keys and files.
//
// Every page is complete without JavaScript; the modules in static add live updates and comfort.
// What is read is asked of the interfaces declared here, after the same permission has been asked
// for as by the API. What is changed is changed by the API itself: a form becomes the request that
// the AWS CLI would send, with the identity of who is signed in, so validation, permissions and
// the audit log are those of the API.
//
//	console.go   configuration, routes, headers, errors
//	session.go   who is signed in: sealed cookies
//	users.go     the account of a user: password, one-time codes
//	history.go   how the counts of jobs went over time; live.go hands it to browsers
//	chart.go     pictures (SVG); words.go configurations as sentences
//	the others   one file for each subject, with its pages
package console
