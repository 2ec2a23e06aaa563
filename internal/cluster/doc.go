// Package cluster carries what the nodes of one drover have to say to each other, over NATS: a
// server in this process, which finds those of the other nodes, or one that runs elsewhere.
//
//	Publish(topic, body)  ──►  nodes that want the topic      once each, in order
//	Announce(topic, body) ──►  every node
//	Tell(body), Ask(body) ──►  every node; Ask gathers answers
//
// A node wants topics by their first three levels (subject): a device is one subscription of
// NATS, whatever it subscribes to below its name. What one node sends, another gets in the
// order in which it was sent, whichever way: who has the answer to a question also has what was
// published before it. That is what Fence is: when it returns, all nodes in touch have had
// everything, and know what this one wants.
//
// NATS delivers at most once. Nodes send a beat twice a second and number what they tell; who
// finds that a number is missing, or hears from a node again after a silence, has missed
// something and is told so (Handler.Missed). Then it forgets what it remembers and asks the
// database. As long as somebody is out of touch, that happens every ten seconds.
package cluster
